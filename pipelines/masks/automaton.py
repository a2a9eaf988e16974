"""Family C: a cellular automaton under the majority rule (AIM 2020 challenge, DeepGIN).

The whole grid is one integer with a bit per cell, so a round is a few bitwise additions on all cells at once. Each row
has one more bit, always 0, which stands for the outside.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.reduction import resize_nearest

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def draw_automaton(height: int, width: int, rng: KeyedRng, side_px: int = 256) -> NDArray[np.uint8]:
    """Mask HxW: fair bits on a grid 1, 2, 4 or 8 times coarser, 2 to 6 rounds of a 3x3 majority, enlarged, dilated.

    The vote outside the grid is 0, so borders erode. A canvas too small for the coarsest grids uses finer ones. For
    another side than 256 px, the mask is drawn at 256 px and resized by nearest neighbors.
    """
    h, w = (max(1, size * 256 // side_px) for size in (height, width))
    scales = [s for s in (1, 2, 4, 8) if min(h, w) >= 2 * s] or [1]
    scale, rounds = scales[rng.integer(0, len(scales) - 1)], rng.integer(2, 6)
    mask = resize_nearest(_grow_cells(h // scale, w // scale, rounds, rng), h, w)
    dilated = cv2.dilate(mask, _CROSS).astype(np.uint8, copy=False) if scale > 1 else mask
    return resize_nearest(dilated, height, width)


def _grow_cells(rows: int, columns: int, rounds: int, rng: KeyedRng) -> NDArray[np.uint8]:
    """Cells rows x columns in {0, 1}: fair bits after that many rounds."""
    stride, inside = columns + 1, _mark_cells(rows, columns)
    count = rows * stride
    cells = int.from_bytes(rng.words(-(-count // 64)).astype("<u8").tobytes(), "little") & inside
    for _ in range(rounds):
        cells = _compute_majority(cells, stride) & inside
    packed = np.frombuffer(cells.to_bytes(-(-count // 8), "little"), np.uint8)
    grid = np.unpackbits(packed, count=count, bitorder="little").reshape(rows, stride)
    return np.ascontiguousarray(grid[:, :columns])


def _compute_majority(cells: int, stride: int) -> int:
    """Bits of the cells with at least five of nine set around them; bits outside the grid may come out set."""
    one, two = _add_three(cells << 1, cells, cells >> 1)
    one, twos = _add_three(one << stride, one, one >> stride)
    two, fours = _add_three(two << stride, two, two >> stride)
    return (fours & (one | two | twos)) | (one & two & twos)


def _add_three(a: int, b: int, c: int) -> tuple[int, int]:
    """Lower and upper bit of a + b + c, for every bit position on its own."""
    odd = a ^ b
    return odd ^ c, (a & b) | (odd & c)


@lru_cache(maxsize=16)
def _mark_cells(rows: int, columns: int) -> int:
    """Bits set where a cell is."""
    row = np.ones((rows, columns + 1), np.uint8)
    row[:, columns] = 0
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
