"""Family B: the brush of the AIM 2020 challenge and of DeepGIN; not the brush of DeepFill v2.

Directions and lengths are whole numbers here: sines and cosines are a table scaled by 2**30, so that no mathematical
library decides where a stroke ends. On squares the statistics are the original's; on other canvases strokes keep
to their canvas, where the original swaps the axes.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance

_ONE: Final = 1 << 30
# (sin, cos) of 0.01 + k radians for k = 0..3, times 2**30, rounded
_DIRECTIONS: Final = (
    (10737239, 1073688137),
    (909278769, 571081101),
    (971833592, -456575266),
    (140889092, -1064458439),
)


def draw_brush(height: int, width: int, chance: Chance) -> NDArray[np.uint8]:
    """A mask HxW of 15 to 23 strokes of 1 to 5 segments, each 10 to 69 px long and 10 to 24 px wide."""
    mask = np.zeros((height, width), np.uint8)
    for stroke in range(15 + chance.integer(0, 8)):
        y, x = chance.integer(0, height - 1), chance.integer(0, width - 1)
        for _ in range(1 + chance.integer(0, 4)):
            sine, cosine = _DIRECTIONS[chance.integer(0, 3)]
            length, thickness = 10 + chance.integer(0, 59), 10 + chance.integer(0, 14)
            end_y = y + _scaled(length, sine if stroke % 2 else -sine)  # an even stroke turns the other way round
            end_x = x + _scaled(length, cosine)
            cv2.line(mask, (x, y), (end_x, end_y), 1, thickness)
            y, x = end_y, end_x
    return mask


def _scaled(length: int, direction: int) -> int:
    """length * direction / 2**30, truncated towards zero; the original truncates the sum with the start."""
    product = length * direction
    return product // _ONE if product >= 0 else -(-product // _ONE)
