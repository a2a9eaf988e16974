"""A pen that draws thick strokes in steps of a given length and angle and stays on its canvas.

Its path depends on no mathematical library: sines and cosines are the powers of one small rotation, multiplied out
exactly.
"""

from typing import Final

import numpy as np

from pipelines.masks.capsules import Sketch

TURN: Final = 4096
"""Unit of angles: so many make a full turn."""
_BITS: Final = 128
# cosine and sine of 2 pi / TURN, times 2**_BITS, rounded
_COSINE: Final = 340281966562298792572160534645360975660
_SINE: Final = 521986408598802148050493966777353034


def _compute_circle() -> list[tuple[int, int]]:
    """Sine and cosine of every angle, times 2**30, rounded."""
    cosine, sine, half, points = 1 << _BITS, 0, 1 << _BITS - 31, []
    for _ in range(TURN):
        points.append((sine + half >> _BITS - 30, cosine + half >> _BITS - 30))
        cosine, sine = cosine * _COSINE - sine * _SINE >> _BITS, sine * _COSINE + cosine * _SINE >> _BITS
    return points


CIRCLE: Final = _compute_circle()


class Pen:
    """Strokes on a canvas; places are whole pixels in [0, limit] of each axis, by default one past the last."""

    def __init__(self, height: int, width: int, past: int = 1) -> None:
        self._limit = height - 1 + past, width - 1 + past
        self._place = 0, 0
        self._segments: list[int] = []

    def put(self, y: int, x: int) -> None:
        """Begin a stroke at a pixel."""
        self._place = y, x

    def draw(self, length: int, angle: int, thickness: int) -> None:
        """Add a segment: length in 1/65536 px, angle in 1/TURN turns from rightwards to downwards, thickness in px."""
        start, (sine, cosine), (lowest, rightmost) = self._place, CIRCLE[angle % TURN], self._limit
        y, x = start[0] + (sine * length >> 46), start[1] + (cosine * length >> 46)
        y = 0 if y < 0 else lowest if y > lowest else y  # twice as fast as min and max
        x = 0 if x < 0 else rightmost if x > rightmost else x
        self._place = end = y, x
        self._segments += (*start, y, x, thickness) if start <= end else (y, x, *start, thickness)

    def sketch(self, *boxes: tuple[slice, slice]) -> Sketch:
        """Sketch of the strokes so far, with boxes over them."""
        return Sketch(np.array(self._segments, np.int64).reshape(-1, 5).T, boxes)
