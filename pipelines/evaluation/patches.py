"""Square patches of a picture: where known ones lie, how they are read at many places at once, and smaller pictures.

In: pictures uint8 HWC and holes bool HW. Out: arrays over places. A place is the row and column of a patch's first
pixel, so every patch lies inside the picture.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Hole = NDArray[np.bool_]
"""HW, true = hole."""
Places = NDArray[np.int64]
"""N x 2, row and column of the first pixel of each patch."""

_SIDES_PX: Final = (7, 5, 3, 1)
_LEAST_SOURCES: Final = 50


def choose_side(hole: Hole) -> int:
    """Side of patches, px: 7, or less where fewer than 50 patches of that side are known throughout."""
    for side in _SIDES_PX:
        if min(hole.shape) >= side and np.count_nonzero(find_known_patches(hole, side)) >= _LEAST_SOURCES:
            return side
    return 1


def find_known_patches(hole: Hole, side: int) -> Hole:
    """Places, as bool (H - side + 1) x (W - side + 1), of patches without a hole pixel."""
    return np.asarray(count_hole_pixels(hole, side) == 0)


def count_hole_pixels(hole: Hole, side: int) -> Places:
    """Hole pixels of the patch at each place, int64 (H - side + 1) x (W - side + 1)."""
    sums = np.pad(hole.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return np.asarray(sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side])


def read_patches(picture: NDArray[Any], places: Places, side: int) -> NDArray[Any]:
    """Patches of a contiguous picture HWC at these places, N x (side * side * C)."""
    height, width, channels = picture.shape
    row, pixel, item = picture.strides
    shape = height - side + 1, width - side + 1, side, side * channels
    view: NDArray[Any] = np.lib.stride_tricks.as_strided(picture, shape, (row, pixel, row, item), writeable=False)
    return view[places[:, 0], places[:, 1]].reshape(len(places), side * side * channels)


def reduce_picture(picture: Levels, hole: Hole, factor: int) -> tuple[Levels, Hole]:
    """Picture HWC and hole, `factor` times smaller; sides are rounded up.

    A pixel is the mean of the known ones that it covers. It is known where half of them are, or where one is if no
    pixel has so many.
    """
    known = to_blocks(~hole[..., None], factor)
    blocks = to_blocks(picture, factor).reshape(*known.shape, picture.shape[2])
    counts = known.sum(2)
    sums = (blocks * known[..., None]).sum(2, dtype=np.int64)
    mean = (2 * sums + counts[..., None]) // np.maximum(2 * counts[..., None], 1)
    enough = 2 * counts >= factor**2
    return mean.astype(np.uint8), ~(enough if enough.any() else counts > 0)


def to_blocks(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Picture HWC -> h x w x (factor * factor * C), a block of pixels for each; rows and columns of 0 are added."""
    height, width, channels = picture.shape
    padded = np.pad(picture, ((0, -height % factor), (0, -width % factor), (0, 0)))
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    split = padded.reshape(rows, factor, columns, factor, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(split.reshape(rows, columns, -1))


def from_blocks(blocks: Levels, factor: int, height: int, width: int) -> Levels:
    """Blocks h x w x (factor * factor * C) -> picture HWC."""
    rows, columns, length = blocks.shape
    split = blocks.reshape(rows, columns, factor, factor, length // factor**2).transpose(0, 2, 1, 3, 4)
    return split.reshape(rows * factor, columns * factor, -1)[:height, :width]
