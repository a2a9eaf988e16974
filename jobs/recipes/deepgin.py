"""Recipes of DeepGIN (Li et al., ECCV Workshops 2020)."""

from dataclasses import replace

from nets.deepgin.network import DeepGINConfig
from nets.deepgin.objective import DeepGINObjectiveConfig
from pipelines.stream.config import StreamConfig, Transform
from pipelines.training.recipe import AdamConfig, TrainRecipe


def deepgin_celebahq() -> TrainRecipe:
    """The paper's training on CelebA-HQ: 42,930,186 parameters, 256x256, 27,000 photos, 10 + 100 epochs.

    Section 4.2: Adam (0.5, 0.999), learning rates 1e-4 and 4e-4, constant for the warm-up and 10 epochs, then linear
    to zero; 4 photos with 3 masks each. The authors: 6 days on two RTX 2080 Ti; 33.26 dB on 3,000 held-out photos with
    their five losses, of which this objective has three (no perceptual and no style term yet).
    """
    epoch = 27_000
    return TrainRecipe(
        name="deepgin-celebahq",
        objective=DeepGINObjectiveConfig(warm_up_images=10 * epoch),
        stream=StreamConfig(size_px=256, resize="polyphase"),
        optimisers={"generator": AdamConfig(1e-4), "critic": AdamConfig(4e-4)},
        batch_size=4,
        images=110 * epoch,
        constant_images=20 * epoch,
        checkpoint_images=5_400,
        metric_images=540,
    )


def deepgin_demo() -> TrainRecipe:
    """The recipe of faces on random squares of a dozen photos, and so short that it does not learn them by heart."""
    faces = deepgin_faces()
    return replace(
        faces,
        name="deepgin-demo",
        objective=replace(faces.objective, warm_up_images=1_700),
        stream=replace(
            faces.stream,
            resize="random-square",
            augment=tuple(map(Transform, ("HorizontalFlip", "RandomRotate90", "ChannelShuffle"))),  # for few colours
        ),
        images=2_400,
        constant_images=800,
    )


def deepgin_faces() -> TrainRecipe:
    """A small DeepGIN at 64x64 for five to seven minutes of two cores; all stages and parts of the paper are there.

    Ours, by trial (docs/log.md): it adds to a smooth fill instead of starting from a white hole; Kaiming's initial
    weights unscaled, steps of 4 photos, a higher learning rate and Adam's (0.9, 0.99) for the generator.
    """
    network = DeepGINConfig(width=12, num_coarse_blocks=1, num_refinement_blocks=1, initial_scale=1.0, residual=True)
    return TrainRecipe(
        name="deepgin-faces",
        objective=DeepGINObjectiveConfig(network, critic_width=8, warm_up_images=5_800),
        stream=StreamConfig(size_px=64, resize="centre-square"),
        optimisers={
            "generator": AdamConfig(1.2e-3, betas=(0.9, 0.99)),
            "critic": AdamConfig(4e-4, betas=(0.5, 0.99)),
        },
        batch_size=4,
        clip_norm=1.0,
        images=8_000,
        constant_images=2_800,
        checkpoint_images=1_600,
        metric_images=200,
    )
