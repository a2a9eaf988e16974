"""Settings that the small recipes of all papers share: faces of 64x64, for some minutes of two cores.

In: an objective. Out: a recipe. Ours, by trial with DeepGIN (docs/log.md): steps of 4 photos with 3 masks each, a high
learning rate that falls to zero, Adam's (0.9, 0.99) for generators and (0.5, 0.99) for critics, the gradients of both
clipped to norm 1.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pipelines.stream.config import StreamConfig
from pipelines.training.recipe import AdamConfig, TrainRecipe

GENERATOR: Final = AdamConfig(1.2e-3, betas=(0.9, 0.99), clip_norm=1.0)
CRITIC: Final = replace(GENERATOR, learning_rate=4e-4, betas=(0.5, 0.99))
ADVERSARIES: Final = {"generator": GENERATOR, "critic": CRITIC}


def make_faces(
    name: str,
    objective: Any,
    optimizers: Mapping[str, AdamConfig] = ADVERSARIES,
    *,
    images: int = 8_000,
    constant_images: int = 2_800,
    sketch_planes: tuple[str, ...] = (),
    large_px: int | None = None,
) -> TrainRecipe:
    """Recipe of the objective's networks on faces."""
    return TrainRecipe(
        name=name,
        objective=objective,
        stream=StreamConfig(size_px=64, resize="centre-square", sketch_planes=sketch_planes, large_px=large_px),
        optimizers=dict(optimizers),
        batch_size=4,
        images=images,
        constant_images=constant_images,
        checkpoint_images=1_600,
        metric_images=200,
    )
