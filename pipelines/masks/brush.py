"""Family B: the brush of the AIM 2020 challenge and of DeepGIN; not the brush of DeepFill v2.

On squares the statistics are the original's; on other canvases strokes keep to their canvas, where the original swaps
the axes. End points are not clipped: a stroke may leave the canvas.
"""

from typing import Final

import numpy as np

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch, sort_ends

# sines and cosines of 0.01 + k radians for k = 0..3, times 2**30, rounded
_DIRECTIONS: Final = np.array(
    [(10737239, 909278769, 971833592, 140889092), (1073688137, 571081101, -456575266, -1064458439)]
)


def sketch_brush(height: int, width: int, chance: KeyedRng, side_px: int = 256) -> Sketch:
    """A mask HxW of 15 to 23 strokes of 1 to 5 segments; at a side of 256 each 10 to 69 px long, 10 to 24 px wide."""
    dice = chance.integers(15 + chance.integer(0, 8), height, width, 5, *(4, 60, 15) * 5)
    start, drawn = dice[:, :2].T, np.arange(5) <= dice[:, 2:3]
    lengths = (10 + dice[:, 4::3]) * side_px // 256
    widths = (11 + dice[:, 5::3]) * side_px // 256  # with the outline, which OpenCV paints as well
    directions = _DIRECTIONS[:, dice[:, 3::3]]
    directions[0, ::2] *= -1  # an even stroke turns the other way round
    steps = directions * lengths >> 30
    ends = start[:, :, None] + steps.cumsum(axis=2)
    segments = sort_ends((ends - steps)[:, drawn], ends[:, drawn])
    return Sketch(np.concatenate((*segments, widths[drawn][None])))
