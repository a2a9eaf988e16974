"""Recipes of DGI, distillation-guided inpainting (Suin, Purohit, Rajagopalan, ICCV 2021)."""

from dataclasses import replace
from typing import Final

from jobs.recipes.faces import GENERATOR, make_faces
from nets.baselines.edge import ECConfig
from nets.baselines.gated import GCConfig
from nets.baselines.objective import ALONE, ATTENTION, ENCODER, BaselineObjectiveConfig
from nets.baselines.partial import PCConfig
from nets.distill.guidance import GuidanceConfig
from nets.distill.network import DistillConfig
from nets.distill.objective import VARIANTS, DistillObjectiveConfig, make_variant
from nets.filling import Procedure
from pipelines.stream.config import StreamConfig
from pipelines.training.recipe import AdamConfig, TrainRecipe

_AUXILIARY_STEPS: Final = 100_000
"""Ours: the paper does not say how long AN is trained alone."""
_BATCH: Final = 6
_PLACES2_STEPS: Final = 2_500_000
_PAPER: Final = DistillObjectiveConfig(guidance=GuidanceConfig(auxiliary_images=_BATCH * _AUXILIARY_STEPS))
ABLATIONS: Final = tuple(name for name in VARIANTS if name != "net8")
"""The networks of Table 2 but for the final one."""
BACKBONES: Final[dict[str, BaselineObjectiveConfig]] = {
    "gc": BaselineObjectiveConfig(GCConfig()),
    "gc-star": BaselineObjectiveConfig(GCConfig(completion=True), ENCODER),
    "gc-dagger": BaselineObjectiveConfig(GCConfig(), ATTENTION),
    "ec": BaselineObjectiveConfig(ECConfig()),
    "ec-star": BaselineObjectiveConfig(ECConfig(completion=True), ENCODER),
    "ec-hash": BaselineObjectiveConfig(ECConfig(edges=False, completion=True), ENCODER),
    "pc": BaselineObjectiveConfig(PCConfig()),
}
"""The columns of Table 3 that can be built, and PC of Table 1."""
_FACES: Final = 9_600
"""Photos that each generator of the small recipes sees."""
_FACES_AUXILIARY: Final = 1_600


def distill_places2() -> TrainRecipe:
    """The paper's training on Places2: 5,280,508 parameters, 256x256, about 2,500,000 steps of 6 photos.

    Section 4: one RTX 2080 Ti, Adam, learning rate 2e-4 without a schedule; masks are NVIDIA's irregular ones, for
    which drawn strokes stand here. Table 1: 29.15 dB at 10-20 %, 24.21 at 30-40 %, 22.35 at 40-50 %; FID 10.45, 29.14
    and 38.28. Hours: none printed. Widths and the 100,000 steps of AN before are ours. Needs VGG-16.
    """
    return _make_paper("distill-places2", _PLACES2_STEPS)


def distill_celeba() -> TrainRecipe:
    """The paper's training on CelebA: about 400,000 steps. Table 1: 34.14, 28.49 and 25.97 dB; FID 4.04, 7.54, 9.96.

    Hours: none printed.
    """
    celeba = _make_paper("distill-celeba", 400_000)
    return replace(celeba, stream=replace(celeba.stream, resize="centre-square"))


def distill_paris() -> TrainRecipe:
    """The paper's training on Paris StreetView: about 400,000 steps. Table 1: 33.05, 27.27 and 25.72 dB.

    Hours: none printed.
    """
    return _make_paper("distill-paris", 400_000)


def distill_printed_places2() -> TrainRecipe:
    """As distill-places2, to the letter: fusion replaces features (Eq. 10), the meta-networks learn in every step.

    Algorithm 1 prints no interval. Their step costs as much as some of the generator's. Hours: none printed.
    """
    network, guidance = replace(_PAPER.network, additive_fusion=False), replace(_PAPER.guidance, every=1)
    return _make_paper("distill-printed-places2", _PLACES2_STEPS, replace(_PAPER, network=network, guidance=guidance))


def distill_ablation(name: str) -> TrainRecipe:
    """A network of Table 2 on Places2, with as many parameters as Net8 but for one; AN comes first where it teaches.

    At 30-40 %: baseline 22.36 dB, Net1 22.84, Net2 22.79, Net3 22.98, Net4 23.54, Net5 22.54, Net6 23.62, Net7 24.08.
    Hours: none printed. Steps are those of Net8, as the paper names no others.
    """
    return _make_paper(f"distill-{name}-places2", _PLACES2_STEPS, make_variant(name, _PAPER))


def distill_backbone(name: str) -> TrainRecipe:
    """Another paper's generator on Places2, alone or with DGI's distillation (Table 3; marks are spelled out).

    At 30-40 %: GC 22.04 dB, GC* 22.74, GC-dagger 22.41, EC 22.18, EC* 22.62, EC# 22.06, PC 22.12 (Table 1). Hours: none
    printed. Optimizer and steps are those of DGI, which is ours, and errors are absolute ones alone.
    """
    return _make_paper(f"{name}-places2", _PLACES2_STEPS, BACKBONES[name])


def _make_paper(
    name: str, steps: int, objective: DistillObjectiveConfig | BaselineObjectiveConfig = _PAPER
) -> TrainRecipe:
    images = _count_an_images(objective.guidance) + _BATCH * steps
    theta, psi = AdamConfig(2e-4, betas=(0.9, 0.999)), AdamConfig(1e-4, (0.9, 0.999), weight_decay=1e-4, unit_norm=True)
    return TrainRecipe(
        name=name,
        objective=objective,
        stream=StreamConfig(size_px=256, resize="squash", masks=("strokes",)),
        optimizers=_make_optimizers(objective.guidance, theta, psi),
        batch_size=_BATCH,
        images=images,
        constant_images=images,
        checkpoint_images=30_000,
        metric_images=600,
    )


def _count_an_images(guidance: GuidanceConfig) -> int:
    """Photos that AN sees before the generator begins."""
    return guidance.auxiliary_images if guidance.has_teacher else 0


def _make_optimizers(guidance: GuidanceConfig, theta: AdamConfig, psi: AdamConfig) -> dict[str, AdamConfig]:
    """Optimizers of the networks that these lessons need: `psi` for the meta-networks, `theta` for all others."""
    needed = {"alignment": guidance.self_distillation, "auxiliary": guidance.has_teacher}
    others = {name: theta for name, is_needed in needed.items() if is_needed}
    return {"generator": theta} | others | ({"meta": psi} if guidance.terms else {})


def distill_faces() -> TrainRecipe:
    """A small Net8 at 64x64 for minutes of two cores, its auxiliary network trained first; no style term.

    Ours: two levels, in whose middle a picture has two thirds of its values as in the paper's three at 256x256; it
    adds to a smooth fill, steps of 4 photos with 3 masks each, higher learning rates that fall to zero, a
    small weight of the distillation, and a longer imagined step. Here 19.98 dB in the hole after 7 min (docs/log.md).
    """
    return _make_faces("net8", "distill-faces")


def distill_net1_faces() -> TrainRecipe:
    """As distill-faces with Net1, cross-distillation alone: no adaptive blocks, no attention, as many parameters.

    Here 20.04 dB in the hole after 4 min (docs/log.md).
    """
    return _make_faces("net1", "distill-net1-faces")


def distill_baseline_faces() -> TrainRecipe:
    """As distill-faces with the baseline, without distillation: as many parameters, as many photos for the generator.

    Here 20.00 dB in the hole after 2 min (docs/log.md).
    """
    return _make_faces("baseline", "distill-baseline-faces")


def distill_photos_128() -> TrainRecipe:
    """The baseline on photos of all kinds at 128x128, for some minutes of two cores; convolutions alone.

    Ours: three levels, and no layer that depends on the size of what it sees: photos of other sizes are filled in
    windows of 256x256.
    """
    network = DistillConfig(
        width=24,
        stem_width=8,
        encoder_blocks=(0, 2, 4),
        decoder_blocks=1,
        completion=False,
        attention=False,
        fusion=False,
        residual=True,
    )
    objective = DistillObjectiveConfig(network, ALONE, style_weight=0.0, confidence_px=33)
    theta = replace(GENERATOR, learning_rate=1.5e-3)
    recipe = make_faces("distill-photos-128", objective, {"generator": theta}, images=9_600, constant_images=3_200)
    return replace(recipe, stream=replace(recipe.stream, size_px=128), procedure=Procedure(scale=2))


def _make_faces(name: str, recipe: str) -> TrainRecipe:
    network = DistillConfig(
        width=32, stem_width=12, encoder_blocks=(1, 3), decoder_blocks=1, key_pooling=(2, 1), residual=True
    )
    guidance = GuidanceConfig(auxiliary_images=_FACES_AUXILIARY, weight=0.02, imagined_rate=0.01)
    objective = DistillObjectiveConfig(network, guidance, style_weight=0.0, confidence_px=17)
    chosen = make_variant(name, objective)
    theta = replace(GENERATOR, learning_rate=1.5e-3)
    psi = replace(GENERATOR, learning_rate=1e-3, clip_norm=None, unit_norm=True)
    before, optimizers = _count_an_images(chosen.guidance), _make_optimizers(chosen.guidance, theta, psi)
    return make_faces(recipe, chosen, optimizers, images=before + _FACES, constant_images=before + _FACES // 3)
