"""What a regular grid in a fill is, in numbers, and how to find one.

In: photos HW3 in levels and holes HW. Out: for each period how far pixels of one phase lie apart from those of others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
PERIODS = range(2, 33)
_BOX_PX = 33
_LEAST_PIXELS = 20


@dataclass(frozen=True)
class Period:
    """How a fill looks at one period."""

    length: int
    spread: float
    """Standard deviation of the phases' means, in levels."""
    own_spread: float
    """That of the photo's own pixels there."""
    across: NDArray[np.float64]
    """Steps across multiples of the period, in both directions."""
    beside: NDArray[np.float64]
    """Steps across the lines beside them."""


def periods_of(filled: Levels, photo: Levels, hole: Levels) -> Iterator[Period]:
    """Yield every period whose phases all have at least 20 pixels in the hole."""
    rows, columns = hole.nonzero()
    flat, own = (_without_means(picture)[rows, columns] for picture in (filled, photo))
    steps, positions = _steps(filled, hole)
    for length in PERIODS:
        phase = rows % length * length + columns % length
        counts = np.bincount(phase, minlength=length**2)
        if counts.min() >= _LEAST_PIXELS:
            spread, own_spread = (float(np.std(np.bincount(phase, weights=of) / counts)) for of in (flat, own))
            line = positions % length
            beside = steps[(line == 1) | (line == length - 1)]
            yield Period(length, spread, own_spread, steps[line == 0], beside)


def gradient_energy(picture: Levels, hole: Levels) -> float:
    """Mean squared step between neighbors in the hole, in squared levels."""
    return float(np.mean(_steps(picture, hole)[0] ** 2))


def _without_means(picture: Levels) -> NDArray[np.float64]:
    """Brightness without its mean over a box around each pixel."""
    brightness = picture.mean(axis=2)
    flat: NDArray[np.float64] = brightness - cv2.blur(brightness, (_BOX_PX, _BOX_PX))
    return flat


def _steps(picture: Levels, hole: Levels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Steps in brightness to the next pixel of the row and of the column, where both are hole, and its position."""
    steps, positions = [], []
    for brightness, mask in ((picture.mean(axis=2), hole), (picture.mean(axis=2).T, hole.T)):
        inside = (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
        steps.append(np.abs(np.diff(brightness, axis=1))[inside])
        positions.append(inside.nonzero()[1] + 1)
    return np.concatenate(steps), np.concatenate(positions)
