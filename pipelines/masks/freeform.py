"""Families D1 and D2: the free-form masks of DeepFill v2 (Yu et al. 2019), the brush alone and the brush with a box.

The original draws one mask per batch; here every sample has its own. On canvases that are not square the original swaps
height and width for starts and limits; here strokes keep to their canvas.
"""

from math import isqrt

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch
from pipelines.masks.pen import TURN, Pen

_INVERSE = 16342  # 65536 over the standard deviation in `_to_normal`, the root of 16 + 1/12


def sketch_freeform(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> Sketch:
    """Sketch of a mask HxW: brush and box, the box 96 to 128 px each way at a side of 256, at most half the canvas."""
    pen = draw_zigzag(height, width, rng, side_px)
    box = []
    for side in (height, width):  # an interval anywhere on the side, shrunk by up to an eighth at both ends
        nominal = min(side_px, side) // 2
        start, shrink = rng.integer(0, max(0, side - nominal - 1)), rng.integer(0, nominal // 8)
        box.append(slice(start + shrink, start + nominal - shrink))
    return pen.sketch((box[0], box[1]))


def sketch_freeform_brush(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> Sketch:
    """Sketch of a mask HxW: the brush alone."""
    return draw_zigzag(height, width, rng, side_px).sketch()


def draw_zigzag(height: int, width: int, rng: KeyedRng, side_px: int) -> Pen:
    """Pen after the brush: 1 to 3 zigzag strokes of 4 to 11 segments, 12 to 39 px wide at a side of 256.

    Segments are an eighth of the diagonal long, plus or minus half of it, and go up and down by turns, at an angle of
    72 degrees plus or minus up to 24.
    """
    pen = Pen(height, width)
    mean = isqrt((height * height + width * width) << 26)  # in 1/65536 px
    for _ in range(rng.integer(1, 3)):
        thickness = rng.integer(12, 39) * side_px // 256
        low, high = TURN // 5 - rng.integer(0, TURN // 15), TURN // 5 + rng.integer(0, TURN // 15)
        pen.put(rng.integer(0, height - 1), rng.integer(0, width - 1))
        sign, words = -1, iter(rng.take(3 * rng.integer(4, 11)))
        for turn, fair, spread in zip(words, words, words, strict=True):
            angle, length = low + (turn * (high - low + 1) >> 64), mean + (mean >> 17) * _to_normal(fair, spread)
            pen.draw(min(max(length, 0), 2 * mean), sign * angle, thickness)
            sign = -sign
    return pen


def _to_normal(fair: int, spread: int) -> int:
    """Normal deviate in 1/65536: ones among 64 fair bits, spread evenly over an integer, by their deviation."""
    return ((fair.bit_count() - 32 << 16) + (spread >> 48) - 32768) * _INVERSE >> 16
