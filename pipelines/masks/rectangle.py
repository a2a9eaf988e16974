"""Family A: one rectangle of 30 to 70 % of each side (AIM 2020 challenge, DeepGIN)."""

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng


def draw_rectangle(height: int, width: int, rng: KeyedRng, _side_px: int = 256) -> NDArray[np.uint8]:
    """Mask HxW: a rectangle, both sides uniform integers in [int(0.3 side), int(0.7 side)], its place uniform."""
    hole_height = max(1, rng.integer(height * 3 // 10, height * 7 // 10))
    hole_width = max(1, rng.integer(width * 3 // 10, width * 7 // 10))
    top, left = rng.integer(0, height - hole_height), rng.integer(0, width - hole_width)
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + hole_height, left : left + hole_width] = 1
    return mask
