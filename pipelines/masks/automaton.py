"""Family C: a cellular automaton under the majority rule (AIM 2020 challenge, DeepGIN)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.masks.reduction import resize_nearest

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def draw_automaton(height: int, width: int, chance: Chance) -> NDArray[np.uint8]:
    """A mask HxW: fair bits on a grid 1, 2, 4 or 8 times coarser, 2 to 6 rounds of a 3x3 majority, enlarged, dilated.

    The vote outside the grid is 0, so borders erode. A canvas too small for the coarsest grids uses finer ones.
    """
    scales = [s for s in (1, 2, 4, 8) if min(height, width) >= 2 * s] or [1]
    scale, rounds = scales[chance.integer(0, len(scales) - 1)], chance.integer(2, 6)
    rows, columns = height // scale, width // scale
    cells = chance.bits(rows * columns).reshape(rows, columns)
    for _ in range(rounds):
        votes = cv2.boxFilter(cells, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        cells = (votes > 4).astype(np.uint8)
    mask = resize_nearest(cells, height, width)
    return np.asarray(cv2.dilate(mask, _CROSS), np.uint8) if scale > 1 else mask
