"""Family E: the masks of MHTMA, a free-form brush and a square of three eighths of the side."""

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch
from pipelines.masks.freeform import draw_zigzag


def sketch_brush_square(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> Sketch:
    """Sketch of a mask HxW: the brush of DeepFill v2 and a square, 96x96 at a side of 256, anywhere inside.

    On a canvas smaller than that side the square is three eighths of the shorter side.
    """
    pen = draw_zigzag(height, width, rng, side_px)
    square = max(1, min(side_px, height, width) * 3 // 8)
    top, left = (rng.integer(0, side - square) for side in (height, width))
    return pen.sketch((slice(top, top + square), slice(left, left + square)))
