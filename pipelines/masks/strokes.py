"""Family G: the strokes of RFR, a synthetic stand-in for the NVIDIA irregular masks where their files are absent.

Half of NVIDIA's masks have no hole near the border: for these stands the family `strokes-clear-border`. Results on
either are on synthetic irregular masks, never on NVIDIA's.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch, draw_sketches
from pipelines.masks.pen import TURN, Pen


def sketch_strokes(height: int, width: int, chance: KeyedRng, side_px: int = 256) -> Sketch:
    """A mask HxW of 1 to 15 strokes of up to 25 segments, each up to 100 px long and 10 to 24 px wide at a side of 256.

    Directions are any; end points are kept on the canvas, widths are even and change from segment to segment.
    """
    pen = Pen(height, width, past=0)
    for _ in range(chance.integer(1, 15)):
        pen.put(chance.integer(0, height - 1), chance.integer(0, width - 1))
        for _ in range(chance.integer(0, 25)):
            thickness = chance.integer(10, 24) // 2 * 2 + 1  # with the outline, which OpenCV paints as well
            pen.draw(chance.integer(0, 100) * side_px << 8, chance.integer(0, TURN - 1), thickness * side_px // 256)
    return pen.sketch()


def draw_strokes_clear_border(height: int, width: int, chance: KeyedRng, side_px: int = 256) -> NDArray[np.uint8]:
    """Such a mask HxW without the holes within 50/512 of its sides of the border."""
    strokes = draw_sketches(height, width, [sketch_strokes(height, width, chance, side_px)])[0]
    inside = np.s_[height * 50 // 512 : height - height * 50 // 512, width * 50 // 512 : width - width * 50 // 512]
    mask = np.zeros((height, width), np.uint8)
    mask[inside] = strokes[inside]
    return mask
