"""Family F: the NVIDIA irregular masks (Liu et al. 2018), whose shapes come from files.

In the test set white is the hole and the files are used as they are. In the training set black is the hole and the
files are raw: they are thickened, turned, moved and cropped at random.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.pen import CIRCLE, TURN
from pipelines.records import UsageError

_VALID_FROM = 154  # lighter than 0.6 of 255, which is 153


def draw_irregular(gray: NDArray[np.uint8], height: int, width: int, _rng: KeyedRng) -> NDArray[np.uint8]:
    """Mask HxW from a file of the test set, which must have that size: lighter than 127 is the hole."""
    if gray.shape != (height, width):
        raise UsageError(
            f"the mask file is {gray.shape[0]}x{gray.shape[1]}, its mask spec says drawn={height}x{width}. "
            f"Use a canvas of the file's size: --mask-canvas-px {gray.shape[0]}"
        )
    return (gray > 127).astype(np.uint8)


def draw_irregular_train(gray: NDArray[np.uint8], height: int, width: int, rng: KeyedRng) -> NDArray[np.uint8]:
    """Mask HxW from a file of the training set: not lighter than 0.6 is the hole, grown by a square of 9 to 49 px.

    Then a window HxW at any angle, its center anywhere in the middle half of the file; outside the file is no hole.
    """
    grown = rng.integer(9, 49)
    holes = cv2.dilate((gray < _VALID_FROM).astype(np.uint8), np.ones((grown, grown), np.uint8))
    center_y, center_x = (size // 4 + rng.integer(0, size // 2) for size in gray.shape)
    down, right = 2 * np.arange(height)[:, None] + 1 - height, 2 * np.arange(width) + 1 - width  # in half pixels
    sine, cosine = CIRCLE[rng.integer(0, TURN - 1)]
    y, x = center_y + (down * cosine + right * sine >> 31), center_x + (right * cosine - down * sine >> 31)
    rows, columns = (np.clip(place, -1, size) + 1 for place, size in zip((y, x), gray.shape, strict=True))
    return np.asarray(np.pad(holes, 1)[rows, columns], np.uint8)
