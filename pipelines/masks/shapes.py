"""Fixed shapes, the same for every photo: the centre square, and the hard cases of RePaint (Lugmayr et al. 2022)."""

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng


def draw_center(height: int, width: int, _chance: KeyedRng, _side_px: int = 256) -> NDArray[np.uint8]:
    """A mask HxW: the middle half of each side, a quarter of the picture."""
    return _middle(height, width, 2)


def draw_half(height: int, width: int, _chance: KeyedRng, _side_px: int = 256) -> NDArray[np.uint8]:
    """A mask HxW: the right half."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 1
    return mask


def draw_expand(height: int, width: int, _chance: KeyedRng, _side_px: int = 256) -> NDArray[np.uint8]:
    """A mask HxW: all but the middle quarter of each side; what is left is a sixteenth of the picture."""
    return 1 - _middle(height, width, 4)


def _middle(height: int, width: int, share: int) -> NDArray[np.uint8]:
    """A mask HxW of the middle 1/share of each side."""
    rows, columns = (slice((side - side // share) // 2, (side + side // share) // 2) for side in (height, width))
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 1
    return mask
