"""Recipes of MHTMA (Zhou, Zeng, Gong, arXiv 2302.06130)."""

from dataclasses import replace
from typing import Final

from jobs.recipes.faces import ADVERSARIES, GENERATOR, make_faces
from nets.mhtma.critic import GlobalLocalCriticConfig
from nets.mhtma.network import MHTMAConfig
from nets.mhtma.objective import MHTMAObjectiveConfig
from pipelines.stream.config import StreamConfig
from pipelines.training.recipe import AdamConfig, TrainRecipe

_STEPS_A_DAY = 103_392
"""71.8 batches a minute on two RTX 3090 (Table II)."""
ABLATIONS: Final[dict[str, MHTMAObjectiveConfig]] = {
    "atma": MHTMAObjectiveConfig(MHTMAConfig(attention="atma")),
    "contextual": MHTMAObjectiveConfig(MHTMAConfig(attention="contextual")),
    "wgan": MHTMAObjectiveConfig(adversarial="wgan-gp"),
}
"""The rows of Tables I and II but for the full model's."""


def mhtma_celebahq() -> TrainRecipe:
    """The paper's training on CelebA-HQ: 256x256, 28,000 photos, 7 days of two RTX 3090.

    Section IV-B: Adam, learning rate 1e-4 for both, batches of 16, flips; a mask is a brush and a 96x96 square. The
    authors stop when the loss on photos kept apart has not fallen for 30 epochs and take the best; here the PSNR in the
    hole of 256 such photos counts, looked at once in 28,000 photos, and the clock of their days ends it at the latest.
    Table II: 26.67 dB, SSIM 0.9008, FID 5.392 on 2,000 held-out photos. Needs VGG-16.
    The text at hand lost widths and weights of terms: those are ours, with them it has 16,169,624 parameters.
    """
    return _make_paper("mhtma-celebahq", days=7, epoch=28_000)


def mhtma_paris() -> TrainRecipe:
    """The paper's training on Paris StreetView: 14,900 photos, 6 days; it prints pictures of it, no figures."""
    return _make_paper("mhtma-paris", days=6, epoch=14_900)


def mhtma_places2() -> TrainRecipe:
    """The paper's training on Places2: 1,803,460 photos, 10 days. Table IV: 27.14 dB at 10-20 %, 22.01 at 40-50 %.

    They are nine epochs, so that it cannot stop early.
    """
    return _make_paper("mhtma-places2", days=10, epoch=1_803_460)


def mhtma_ablation(name: str) -> TrainRecipe:
    """A row of Table I or II: one part exchanged, all else and the number of photos as in mhtma-celebahq.

    Table I, whose photos are not named (MHTMA has 28.82 dB there): ATMA 28.44 dB, SSIM 0.9108, FID 5.799; contextual
    attention 28.71, 0.9132, 5.425; hours: none printed. Table II, CelebA-HQ: WGAN-GP 26.39, 0.8981, 5.559, at 59.0
    batches a minute, which makes eight and a half days of it.
    """
    return replace(mhtma_celebahq(), name=f"mhtma-{name}-celebahq", objective=ABLATIONS[name])


def mhtma_sketch_paris() -> TrainRecipe:
    """The sketch-guided variant of section IV-F on Paris StreetView, with PiDiNet's edge maps as the plane `edge`.

    Figures and hours: none printed of it; the days are those of Paris.
    """
    paris = _make_paper("mhtma-sketch-paris", days=6, epoch=14_900)
    objective = replace(paris.objective, network=MHTMAConfig(sketch=True))
    return replace(
        paris, objective=objective, stream=replace(paris.stream, planes=("edge",), sketch_planes=("sketch",))
    )


def _make_paper(name: str, days: int, epoch: int) -> TrainRecipe:
    images = 16 * days * _STEPS_A_DAY
    return TrainRecipe(
        name=name,
        objective=MHTMAObjectiveConfig(),
        stream=StreamConfig(size_px=256, resize="squash", masks=("brush-square",)),
        optimizers={"generator": AdamConfig(1e-4), "critic": AdamConfig(1e-4)},
        batch_size=16,
        images=images,
        constant_images=images,
        checkpoint_images=28_000,
        metric_images=1_600,
        watched_photos=256,
        early_stop_images=30 * epoch if 30 * epoch < images else None,
    )


def mhtma_faces() -> TrainRecipe:
    """A small MHTMA at 64x64 for minutes of two cores; all parts of the paper but the perceptual loss are there.

    Ours: it adds to a smooth fill instead of starting from a hole of one color, the critic joins in late, steps of 4
    photos with 3 masks each, a higher learning rate and Adam's (0.9, 0.99) for the generator.
    """
    network = MHTMAConfig(width=8, dilations=(2, 4), residual=True)
    critic = GlobalLocalCriticConfig(64, 32, width=8, num_global=4, num_local=3, num_features=64)
    objective = MHTMAObjectiveConfig(network, critic, perceptual_weight=0.0, warm_up_images=6_000)
    optimizers = ADVERSARIES | {"generator": replace(GENERATOR, learning_rate=2e-3)}
    return make_faces("mhtma-faces", objective, optimizers)


def mhtma_sketch_faces() -> TrainRecipe:
    """As mhtma-faces, with sketches of the built-in edge detector, which half of the samples see."""
    plain = mhtma_faces()
    network = replace(plain.objective.network, sketch=True)
    objective = replace(plain.objective, network=network, sketch_dropout=0.5)
    return make_faces("mhtma-sketch-faces", objective, plain.optimizers, sketch_planes=("sketch",))
