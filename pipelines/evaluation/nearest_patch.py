"""Holes filled from their border inward, each patch with the unknown part of the most similar known one.

In: a picture and its hole. Out: for each pixel the pixel that it is copied from. Copying whole patches by the most
similar known one is from Criminisi, Pérez and Toyama, IEEE Trans. Image Processing 13(9), 2004, section III; the order
is by their confidence term alone, from the border inward ("onion peel"), after Efros and Leung, ICCV 1999.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.patches import Hole, Levels, Places, choose_side, find_known_patches, read_patches

_MAX_SOURCES: Final = 1 << 15
"""Known patches that are compared first, on a regular grid of places; those around the best one are compared after."""
_SOURCES_AT_A_TIME: Final = 1 << 13


def find_sources(picture: Levels, hole: Hole) -> NDArray[np.int64]:
    """Number of the known pixel, row by row, from which each pixel of a picture HWC is copied, HW; its own if known."""
    height, width = hole.shape
    side = choose_side(hole)
    is_source = find_known_patches(hole, side)
    grid = _select_grid(is_source)
    sources = np.arange(height * width).reshape(height, width)
    colors, missing = np.where(hole[..., None], np.uint8(0), picture), hole.copy()
    while missing.any():
        # Choose patches at the border of what is missing, and find the most similar one for each.
        targets = _choose_targets(missing, side)
        found = _find_nearest(colors, missing, targets, grid, is_source, side)
        # Copy what each lacks; of patches that overlap the last one counts.
        steps = np.arange(side)
        rows, columns = (targets[:, axis, None] + steps for axis in (0, 1))
        index = rows[:, :, None], columns[:, None, :]
        theirs = (found[:, 0, None] + steps)[:, :, None] * width + (found[:, 1, None] + steps)[:, None, :]
        lacking = missing[index]
        places = (rows[:, :, None] * width + columns[:, None, :])[lacking]
        sources.reshape(-1)[places] = theirs[lacking]
        colors.reshape(-1, 3)[places] = picture.reshape(-1, 3)[sources.reshape(-1)[places]]
        missing.reshape(-1)[places] = False
    return sources


def _select_grid(is_source: Hole) -> Places:
    """Places of known patches, at most 32,768 of them, at the same distances in rows and columns."""
    step = 1
    while np.count_nonzero(is_source[::step, ::step]) > _MAX_SOURCES:
        step += 1
    grid = np.argwhere(is_source[::step, ::step]) * step
    return grid if len(grid) else np.argwhere(is_source)


def _choose_targets(missing: Hole, side: int) -> Places:
    """Places of patches around border pixels of what is missing, the most known ones first among neighbors."""
    levels = missing.astype(np.uint8)
    border = missing & (cv2.erode(levels, np.ones((3, 3), np.uint8), borderValue=1) == 0)
    known = cv2.boxFilter(1.0 - levels, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    # A unique number breaks ties, so that no two neighbors are chosen.
    order = np.arange(missing.size, 0, -1, dtype=np.float64).reshape(missing.shape) / (missing.size + 1)
    confidence = np.where(border, known + order, -1.0)
    highest = cv2.dilate(confidence, np.ones((side, side), np.uint8), borderValue=-1.0)
    middles = np.argwhere(border & (confidence == highest))
    return np.clip(middles - side // 2, 0, np.array(missing.shape) - side)


def _find_nearest(colors: Levels, missing: Hole, targets: Places, grid: Places, is_source: Hole, side: int) -> Places:
    """Places of the known patches that differ least from those at `targets` in the pixels that these have.

    Sums of squares of levels are whole numbers below 2**24, so float32 has them exactly and no order of sums matters.
    """
    known = np.repeat(~missing[..., None], 3, axis=2).astype(np.float32)
    masks = np.asarray(read_patches(known, targets, side))
    shown = read_patches(colors, targets, side) * masks
    least, best = np.full(len(targets), np.inf, np.float32), np.zeros(len(targets), np.int64)
    for start in range(0, len(grid), _SOURCES_AT_A_TIME):
        theirs = read_patches(colors, grid[start : start + _SOURCES_AT_A_TIME], side).astype(np.float32)
        distances = masks @ np.square(theirs).T - 2 * (shown @ theirs.T)
        nearest = distances.argmin(1)
        found = distances[np.arange(len(targets)), nearest]
        best[found < least] = start + nearest[found < least]
        least = np.minimum(least, found)
    return _refine(colors, masks, shown, grid[best], is_source, side)


def _refine(
    colors: Levels, masks: NDArray[np.float32], shown: NDArray[np.float32], places: Places, is_source: Hole, side: int
) -> Places:
    """The best of known patches around each place: first two pixels away, then one."""
    least = _measure(colors, masks, shown, places, side)
    for step in (2, 1):
        middle = places.copy()
        for row in (-step, 0, step):
            for column in (-step, 0, step):
                tried = np.clip(middle + np.array([row, column]), 0, np.array(is_source.shape) - 1)
                distances = _measure(colors, masks, shown, tried, side)
                better = (distances < least) & is_source[tried[:, 0], tried[:, 1]]
                places[better], least[better] = tried[better], distances[better]
    return places


def _measure(
    colors: Levels, masks: NDArray[np.float32], shown: NDArray[np.float32], places: Places, side: int
) -> NDArray[np.float32]:
    """Sum of squared differences, in levels, over the pixels of `masks`."""
    return np.asarray(np.square(read_patches(colors, places, side) * masks - shown).sum(1))
