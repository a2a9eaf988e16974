"""Recipes of DeepGIN (Li et al., ECCV Workshops 2020)."""

from dataclasses import replace

from jobs.recipes.faces import make_faces
from nets.deepgin.network import DeepGINConfig
from nets.deepgin.objective import DeepGINObjectiveConfig
from pipelines.stream.config import StreamConfig, Transform
from pipelines.training.recipe import AdamConfig, TrainRecipe


def deepgin_celebahq() -> TrainRecipe:
    """The paper's training on CelebA-HQ: 42,930,186 parameters, 256x256, 27,000 photos, 10 + 100 epochs.

    Section 5.1: Adam (0.5, 0.999), learning rates 1e-4 and 4e-4, constant for the warm-up and 10 epochs, then linear
    to zero; 4 photos with 3 masks each; all five losses, so VGG-19's weights are needed. The generator's gradients are
    clipped as in the code. The authors: 6 days on two RTX 2080 Ti; Table 1: 33.26 dB, SSIM 0.939, FID 11.4, LPIPS 0.132
    on 3,000 held-out photos.
    """
    epoch = 27_000
    return TrainRecipe(
        name="deepgin-celebahq",
        objective=DeepGINObjectiveConfig(warm_up_images=10 * epoch),
        stream=StreamConfig(size_px=256, resize="polyphase"),
        optimizers={"generator": AdamConfig(1e-4, clip_norm=3.0), "critic": AdamConfig(4e-4)},
        batch_size=4,
        images=110 * epoch,
        constant_images=20 * epoch,
        checkpoint_images=5_400,
        metric_images=540,
    )


def deepgin_ade20k() -> TrainRecipe:
    """The paper's training on 10,330 photos of ADE20K, else as on CelebA-HQ.

    For track 1 of the AIM 2020 challenge on extreme inpainting. Section 5.2; the authors: two and a half days, no
    figures on ADE20K itself in the paper.
    """
    epoch = 10_330
    return replace(
        deepgin_celebahq(),
        name="deepgin-ade20k",
        objective=DeepGINObjectiveConfig(warm_up_images=10 * epoch),
        images=110 * epoch,
        constant_images=20 * epoch,
        checkpoint_images=5_164,
        metric_images=516,
    )


def deepgin_ade20k_segmentation() -> TrainRecipe:
    """Track 2 of the AIM 2020 challenge: as track 1, and both stages see the segmentation map.

    No figures were published. Hours: none printed. The dataset must hold the maps: `lacuna shard --planes seg`.
    """
    photos = deepgin_ade20k()
    return replace(
        photos,
        name="deepgin-ade20k-segmentation",
        objective=replace(photos.objective, network=DeepGINConfig(segmentation=True)),
        stream=replace(photos.stream, planes=("segmentation",)),
    )


def deepgin_demo() -> TrainRecipe:
    """The recipe of faces on random squares of a dozen photos, and so short that it does not learn them by heart.

    It begins from a nearly harmonic fill: from so few photos little is learned that helps others (docs/log.md).
    """
    small = deepgin_faces()
    return replace(
        small,
        name="deepgin-demo",
        objective=replace(
            small.objective, network=replace(small.objective.network, smoothing_sweeps=4), warm_up_images=1_700
        ),
        stream=replace(
            small.stream,
            resize="random-square",
            augment=tuple(map(Transform, ("HorizontalFlip", "RandomRotate90", "ChannelShuffle"))),  # for few colors
        ),
        images=2_400,
        constant_images=800,
    )


def deepgin_faces() -> TrainRecipe:
    """A small DeepGIN at 64x64 for five to seven minutes of two cores; all stages and parts of the paper are there.

    Ours, by trial (docs/log.md): it adds to a smooth fill instead of starting from a white hole; Kaiming's initial
    weights unscaled; no VGG-19.
    """
    network = DeepGINConfig(width=12, num_coarse_blocks=1, num_refinement_blocks=1, initial_scale=1.0, residual=True)
    objective = DeepGINObjectiveConfig(
        network, critic_width=8, warm_up_images=5_800, perceptual_weight=0.0, style_weight=0.0
    )
    return make_faces("deepgin-faces", objective)
