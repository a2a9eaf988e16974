"""Family G: the strokes of RFR, a synthetic stand-in for the NVIDIA irregular masks where their files are absent.

Half of NVIDIA's masks have no hole near the border: the family `strokes-clear-border` stands in for these. Results on
either are on synthetic irregular masks, never on NVIDIA's.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch, draw_sketches
from pipelines.masks.pen import TURN, Pen


def sketch_strokes(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> Sketch:
    """Sketch of a mask HxW of 1 to 15 strokes of up to 25 segments, each up to 100 px long and 10 to 24 px wide.

    Lengths are those at a side of 256 px. Directions are any; end points are kept on the canvas, widths are even and
    change from segment to segment.
    """
    pen = Pen(height, width, past=0)
    for _ in range(rng.integer(1, 15)):
        pen.put(rng.integer(0, height - 1), rng.integer(0, width - 1))
        for _ in range(rng.integer(0, 25)):
            thickness = rng.integer(10, 24) // 2 * 2 + 1  # with the outline, which OpenCV paints as well
            pen.draw(rng.integer(0, 100) * side_px << 8, rng.integer(0, TURN - 1), thickness * side_px // 256)
    return pen.sketch()


def draw_strokes_clear_border(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> NDArray[np.uint8]:
    """Mask HxW of such strokes without the holes within 50/512 of its sides of the border."""
    strokes = draw_sketches(height, width, [sketch_strokes(height, width, rng, side_px)])[0]
    inside = np.s_[height * 50 // 512 : height - height * 50 // 512, width * 50 // 512 : width - width * 50 // 512]
    mask = np.zeros((height, width), np.uint8)
    mask[inside] = strokes[inside]
    return mask
