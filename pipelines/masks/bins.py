"""Hole-ratio bins: the only place that says which ratios share a row of a score table.

Bin (0.1 k, 0.1 (k+1)] for k = 0..5, the first one from 0.01 on; what is smaller or larger has a bin of its own
(Liu et al. 2018; specification of the masks, family F). Counted in whole pixels, so no rounding moves a mask.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = ("0-0.01", "0.01-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5", "0.5-0.6", "0.6-1")


def hole_ratio(mask: NDArray[np.uint8]) -> float:
    """Share of hole pixels of a mask in {0, 1}, in [0, 1]."""
    return float(np.count_nonzero(mask) / mask.size)


def find_bin(mask: NDArray[np.uint8]) -> str:
    """The name of the mask's bin at its own resolution."""
    holes, pixels = int(np.count_nonzero(mask)), mask.size
    if holes * 100 <= pixels:
        return BINS[0]
    return BINS[min(7, 1 + (holes * 10 - 1) // pixels)]
