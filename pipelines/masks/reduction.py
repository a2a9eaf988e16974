"""Masks at another resolution, by nearest neighbors in integers only, so that they stay in {0, 1} and exact."""

import numpy as np
from numpy.typing import NDArray


def resize_nearest(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Mask hxw -> HxW; row i takes row i*h//H."""
    if mask.shape == (height, width):
        return mask
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return np.asarray(mask.take(rows, axis=0).take(columns, axis=1), np.uint8)
