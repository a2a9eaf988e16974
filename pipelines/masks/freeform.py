"""Families D1 and D2: the free-form masks of DeepFill v2 (Yu et al. 2019), the brush alone and the brush with a box.

The original draws one mask a batch; here every sample has its own. On canvases that are no squares the original swaps
height and width for starts and limits; here strokes keep to their canvas.
"""

from math import isqrt

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch
from pipelines.masks.pen import TURN, Pen

_INVERSE = 16342  # 65536 over the standard deviation of _normal, the root of 16 + 1/12


def sketch_freeform(height: int, width: int, chance: KeyedRng, side_px: int = 256) -> Sketch:
    """A mask HxW: a brush and a box of 96 to 128 px each way at a side of 256, at most half of the canvas each way."""
    pen = zigzag(height, width, chance, side_px)
    rows, columns = (_interval(side, min(side_px, side) // 2, chance) for side in (height, width))
    return pen.sketch((rows, columns))


def sketch_freeform_brush(height: int, width: int, chance: KeyedRng, side_px: int = 256) -> Sketch:
    """A mask HxW: the brush alone."""
    return zigzag(height, width, chance, side_px).sketch()


def _interval(side: int, nominal: int, chance: KeyedRng) -> slice:
    """One axis of the box: a nominal interval anywhere, then shrunk by up to an eighth at both ends."""
    start, shrink = chance.integer(0, max(0, side - nominal - 1)), chance.integer(0, nominal // 8)
    return slice(start + shrink, start + nominal - shrink)


def zigzag(height: int, width: int, chance: KeyedRng, side_px: int) -> Pen:
    """The brush: 1 to 3 zigzag strokes of 4 to 11 segments, 12 to 39 px wide at a side of 256.

    Segments are an eighth of the diagonal long, give or take half of it, and go up and down by turns, at an angle of 72
    degrees give or take up to 24.
    """
    pen = Pen(height, width)
    mean = isqrt((height * height + width * width) << 26)  # in 1/65536 px
    for _ in range(chance.integer(1, 3)):
        thickness = chance.integer(12, 39) * side_px // 256
        low, high = TURN // 5 - chance.integer(0, TURN // 15), TURN // 5 + chance.integer(0, TURN // 15)
        pen.put(chance.integer(0, height - 1), chance.integer(0, width - 1))
        sign, words = -1, iter(chance.take(3 * chance.integer(4, 11)))
        for turn, fair, spread in zip(words, words, words, strict=True):
            angle, length = low + (turn * (high - low + 1) >> 64), mean + (mean >> 17) * _normal(fair, spread)
            pen.draw(min(max(length, 0), 2 * mean), sign * angle, thickness)
            sign = -sign
    return pen


def _normal(fair: int, spread: int) -> int:
    """A normal deviate in 1/65536: ones among 64 fair bits, spread evenly over a whole number, by their deviation."""
    return ((fair.bit_count() - 32 << 16) + (spread >> 48) - 32768) * _INVERSE >> 16
