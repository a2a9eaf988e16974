"""Recipes of SPN (Zhang et al., Pattern Recognition 2023) and of SPL (Zhang et al., IJCAI 2021).

The papers draw holes from the 12,000 NVIDIA test masks, which a stream does not read: free-form strokes stand in here.
Photos are resized as the stream does it, by areas where they shrink and cubic where they grow, to 256 and to 512 pixels
a side; the authors' code takes OpenCV's bilinear for both. Numbers of epochs are those of the authors' read-me files,
the papers print none; so is, on Paris and CelebA-HQ, the epoch after which the rate falls (the paper has it fall for
the last quarter, as it does here on CelebA and Places2). An epoch is whole batches of 8.
"""

from dataclasses import replace
from typing import TypeVar

from jobs.recipes.faces import ADVERSARIES, GENERATOR, make_faces
from nets.spn.network import SPLConfig, SPNConfig
from nets.spn.objective import SPNObjectiveConfig
from nets.spn.targets import TResNetTarget
from pipelines.stream.config import StreamConfig
from pipelines.training.recipe import AdamConfig, TrainRecipe

_Config = TypeVar("_Config", SPNConfig, SPLConfig)
_PARIS, _CELEBA, _CELEBAHQ, _PLACES = 14_896, 162_768, 27_000, 1_803_456
"""Photos in an epoch."""


def spn_paris() -> TrainRecipe:
    """The training on Paris StreetView: 50,702,643 parameters with the heads, 256x256, 75 epochs of 14,900 photos.

    Priors from TResNet-L (file `tresnet_l_openimages`) for 60 epochs, learning rate a tenth after the 50th. The
    authors: a day on two V100; 29.69 dB, SSIM 0.886, FID 36.82 on 100 photos (Table 1).
    """
    objective = SPNObjectiveConfig(prior_until_images=60 * _PARIS)
    return _make_printed("spn-paris", objective, _PARIS, 75, drop=50)


def spn_celeba() -> TrainRecipe:
    """The paper's training on CelebA: center crops, 40 epochs of 162,770 photos, the rate a tenth for the last 10.

    The authors: 33.52 dB, SSIM 0.937, FID 6.77 on the first 12,000 photos of the test split (Table 1). Hours: none
    printed.
    """
    return _make_printed("spn-celeba", SPNObjectiveConfig(), _CELEBA, 40, drop=30, resize="centre-square")


def spn_places2() -> TrainRecipe:
    """The paper's training on Places2: 40 epochs of 1.8 million photos, the rate a tenth for the last 10.

    The authors: 27.72 dB, SSIM 0.877, FID 4.73 on the first 12,000 photos of the validation split (Table 1). Hours:
    none printed.
    """
    return _make_printed("spn-places2", SPNObjectiveConfig(), _PLACES, 40, drop=30)


def spn_probabilistic_celebahq() -> TrainRecipe:
    """The paper's probabilistic training on CelebA-HQ: 68,512,883 parameters with the heads, 27,000 photos.

    Needs the files `tresnet_l_openimages` and `vgg19_features`. 70 epochs, as the read-me's command for CelebA-HQ says.
    The authors, the best of five fills: 28.90 dB, SSIM 0.881, FID 4.08 on 2,800 photos (Table 2). Hours: none printed.
    """
    return _make_printed("spn-probabilistic-celebahq", _make_probabilistic(_CELEBAHQ), _CELEBAHQ, 70, drop=50)


def spn_probabilistic_paris() -> TrainRecipe:
    """The paper's probabilistic training on Paris StreetView.

    70 epochs, as on CelebA-HQ: the read-me has no command for Paris. The authors, the best of five fills: 28.56 dB,
    SSIM 0.865, FID 46.97 on 100 photos (Table 2). Hours: none printed.
    """
    return _make_printed("spn-probabilistic-paris", _make_probabilistic(_PARIS), _PARIS, 70, drop=50)


def spl_paris() -> TrainRecipe:
    """SPL on Paris StreetView: 45,597,223 parameters with the head, 70 epochs, priors for 60, the drop after 50.

    The authors: 29.38 dB, SSIM 0.882, FID 46.13 on 100 photos (SPN's Table 1). Hours: none printed.
    """
    objective = SPNObjectiveConfig(SPLConfig(), prior_until_images=60 * _PARIS)
    return _make_printed("spl-paris", objective, _PARIS, 70, drop=50)


def spl_celeba() -> TrainRecipe:
    """SPL on CelebA as its read-me says: 40 epochs, the rate a tenth for the last 10, priors to the end.

    The authors: 33.23 dB, SSIM 0.935, FID 6.88 on the first 12,000 photos of the test split (SPN's Table 1). Hours:
    none printed.
    """
    return replace(spn_celeba(), name="spl-celeba", objective=SPNObjectiveConfig(SPLConfig()))


def spl_places2() -> TrainRecipe:
    """SPL on Places2 as its read-me says: 40 epochs, the rate a tenth for the last 10, priors to the end.

    The authors: 27.55 dB, SSIM 0.875, FID 5.56 on the first 12,000 photos of the validation split (SPN's Table 1).
    Hours: none printed.
    """
    return replace(spn_places2(), name="spl-places2", objective=SPNObjectiveConfig(SPLConfig()))


def spn_faces() -> TrainRecipe:
    """A small SPN at 64x64 for minutes of two cores: three priors from a TResNet with random weights (Fig. 9).

    Ours: it adds to a smooth fill, steps are of 4 photos with 3 masks each, the critic weighs less, and rate and betas
    are those of the other recipes of faces.
    """
    return _make_faces("spn-faces", _make_small(SPNConfig))


def spn_probabilistic_faces() -> TrainRecipe:
    """The small SPN with its variational module, two samples for each hole; no VGG-19, and so no diversity loss.

    Half as many photos as the others: a step takes nearly twice as long.
    """
    return _make_faces("spn-probabilistic-faces", replace(_make_small(SPNConfig), probabilistic=True), images=4_000)


def spl_faces() -> TrainRecipe:
    """A small SPL at 64x64 for minutes of two cores."""
    return _make_faces("spl-faces", _make_small(SPLConfig))


def spn_faces_128() -> TrainRecipe:
    """The small SPN at 128x128 and four times the width, for some minutes of one GPU: bfloat16, steps of 16 photos.

    The rate is two thirds of that at 64x64, as the network is wider.
    """
    small = _resize_to_128(spn_faces())
    return replace(
        small,
        name="spn-faces-128",
        objective=replace(
            small.objective,
            network=_make_small(SPNConfig, 32),
            target=TResNetTarget(weights=None, width=16),
            critic_width=32,
            prior_until_images=48_000,
        ),
        optimizers={name: replace(o, learning_rate=o.learning_rate * 2 / 3) for name, o in small.optimizers.items()},
        batch_size=16,
        images=64_000,
        constant_images=24_000,
        checkpoint_images=8_000,
        metric_images=1_600,
        precision="bfloat16",
    )


def spn_faces_128_narrow() -> TrainRecipe:
    """The small SPN at 128x128, as wide as at 64x64, for an hour of two cores: twice as many photos.

    Here 20.38 dB in the hole after 55 min (docs/log.md).
    """
    return _resize_to_128(_make_faces("spn-faces-128-narrow", _make_small(SPNConfig), images=16_000))


def _resize_to_128(recipe: TrainRecipe) -> TrainRecipe:
    return replace(recipe, stream=replace(recipe.stream, size_px=128, large_px=256))


def _make_small(kind: type[_Config], width: int = 8) -> _Config:
    """All parts of the paper's network in a few channels."""
    return kind(
        width=width,
        spade_width=width,
        num_spade_blocks=2,
        num_dense_blocks=2,
        num_dense_layers=3,
        growth=8,
        num_prior_blocks=2,
        residual=True,
    )


def _make_probabilistic(epoch: int) -> SPNObjectiveConfig:
    return SPNObjectiveConfig(SPNConfig(probabilistic=True), prior_until_images=60 * epoch)


def _make_printed(
    name: str, objective: SPNObjectiveConfig, epoch: int, epochs: int, *, drop: int, resize: str = "squash"
) -> TrainRecipe:
    """Adam (0, 0.9) and 1e-4 for all networks, a tenth of it after `drop` epochs, 8 photos a step, one mask each."""
    return TrainRecipe(
        name=name,
        objective=objective,
        stream=StreamConfig(size_px=256, resize=resize, large_px=512, masks=("freeform",)),
        optimizers=dict.fromkeys(("generator", "heads", "critic"), AdamConfig(1e-4, betas=(0.0, 0.9))),
        batch_size=8,
        images=epochs * epoch,
        constant_images=epochs * epoch,
        lr_milestones=((drop * epoch, 0.1),),
        checkpoint_images=8_000,
        metric_images=800,
    )


def _make_faces(name: str, network: SPNConfig | SPLConfig, images: int = 8_000) -> TrainRecipe:
    objective = SPNObjectiveConfig(
        network,
        TResNetTarget(weights=None, width=8),
        critic_width=8,
        prior_until_images=images * 3 // 4,
        adversarial_weight=0.01,
        feature_matching_weight=0.1,
        perceptual_weight=0.0,
        diversity_weight=0.0,
        divergence_weight=0.005,
    )
    optimizers = ADVERSARIES | {"heads": GENERATOR}
    return make_faces(name, objective, optimizers, images=images, constant_images=images * 35 // 100, large_px=128)
