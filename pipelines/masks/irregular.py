"""Family F: the NVIDIA irregular masks (Liu et al. 2018), whose shapes come from files.

In the test set white is the hole and the files are used as they are. In the training set black is the hole and the
files are raw: they are thickened, turned, moved and cropped by chance.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.pen import CIRCLE, TURN
from pipelines.records import UsageError

_VALID_FROM = 154  # lighter than 0.6 of 255, which is 153


def draw_irregular(grey: NDArray[np.uint8], height: int, width: int, _chance: KeyedRng) -> NDArray[np.uint8]:
    """A mask HxW from a file of the test set, which must have that size: lighter than 127 is the hole."""
    if grey.shape != (height, width):
        raise UsageError(
            f"the mask file is {grey.shape[0]}x{grey.shape[1]}, its recipe says drawn={height}x{width}: draw on a "
            f"canvas of its size (--mask-canvas-px {grey.shape[0]}), which is then brought to that of the mask"
        )
    return (grey > 127).astype(np.uint8)


def draw_irregular_train(grey: NDArray[np.uint8], height: int, width: int, chance: KeyedRng) -> NDArray[np.uint8]:
    """A mask HxW from a file of the training set: not lighter than 0.6 is the hole, grown by a square of 9 to 49 px.

    Then a window HxW at any angle, its centre anywhere in the middle half of the file; outside the file is no hole.
    """
    grown = chance.integer(9, 49)
    holes = cv2.dilate((grey < _VALID_FROM).astype(np.uint8), np.ones((grown, grown), np.uint8))
    centre_y, centre_x = (size // 4 + chance.integer(0, size // 2) for size in grey.shape)
    down, right = 2 * np.arange(height)[:, None] + 1 - height, 2 * np.arange(width) + 1 - width  # in half pixels
    sine, cosine = CIRCLE[chance.integer(0, TURN - 1)]
    y, x = centre_y + (down * cosine + right * sine >> 31), centre_x + (right * cosine - down * sine >> 31)
    rows, columns = (np.clip(place, -1, size) + 1 for place, size in zip((y, x), grey.shape, strict=True))
    return np.asarray(np.pad(holes, 1)[rows, columns], np.uint8)
