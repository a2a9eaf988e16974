"""Classical methods: fillers without training, by their names as models.

In: uint8 NHWC images and uint8 NHW masks in {0, 1}. Out: the images with filled holes. `telea` and `navier-stokes` are
OpenCV's, `biharmonic` is scikit-image's (Damelin and Hoang, 2018); `nearest-patch` and `patchmatch` have modules of
their own. The last three see windows around the holes, reduced where they are large, so that memory is bounded.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import torch

from nets.procedures.windows import group_holes
from pipelines.evaluation.nearest_patch import find_sources
from pipelines.evaluation.patches import Hole, Levels, from_blocks, reduce_picture, to_blocks
from pipelines.evaluation.patchmatch import match_patches, vote
from pipelines.records import UsageError

_RADIUS_PX: Final = 3
_WINDOW_PX: Final = 512
"""Least side of a window, as far as the photo goes."""
_CONTEXT: Final = 2.0
"""Side of larger windows over that of their holes' box."""
_MAX_MATCHED_PX: Final = 768
"""Side of a window in which patches are compared; of a larger one, patches of blocks of pixels are."""
_MAX_UNKNOWNS: Final = 15_000
"""Hole pixels of a biharmonic fill; a window with more is filled at a smaller size."""

FillWindow = Callable[[Levels, Hole], Levels]
"""Window HWC and all its holes HW -> window with filled holes; one pixel at least is known."""


class Classical(NamedTuple):
    """Method and the library that it depends on."""

    fill: Callable[[Levels, Levels], Levels]
    """Images and masks -> filled images."""
    library: str


def fill_by_opencv(method: int, images: Levels, masks: Levels) -> Levels:
    """Images filled by a method of OpenCV."""
    pairs = zip(images, masks, strict=True)
    return np.stack([np.asarray(cv2.inpaint(i, m, _RADIUS_PX, method), np.uint8) for i, m in pairs])


def fill_by_windows(fill: FillWindow, images: Levels, masks: Levels) -> Levels:
    """Images whose holes are filled window by window; raises UsageError, before any is, where no pixel is known."""
    for number, mask in enumerate(masks):
        if mask.all():
            height, width = mask.shape
            raise UsageError(
                f"mask {number + 1} of {len(masks)} covers all {width}x{height} px of its photo: a method that copies "
                "or continues known pixels needs at least one"
            )
    return np.stack([_fill_photo(fill, *pair) for pair in zip(images, masks, strict=True)])


def fill_biharmonic(window: Levels, hole: Hole) -> Levels:
    """Window continued as a biharmonic surface; smaller, then enlarged, if it has over 15,000 hole pixels."""
    from skimage.restoration import inpaint_biharmonic

    height, width = hole.shape
    factor = int(np.ceil(np.sqrt(np.count_nonzero(hole) / _MAX_UNKNOWNS)))
    small, unknown = reduce_picture(window, hole, factor)
    surface: Any = inpaint_biharmonic(small, unknown, channel_axis=-1)
    large = cv2.resize(surface, (width, height), interpolation=cv2.INTER_CUBIC) if factor > 1 else surface
    return np.where(hole[..., None], np.rint(255 * large).clip(0, 255).astype(np.uint8), window)


def fill_nearest_patch(window: Levels, hole: Hole) -> Levels:
    """Window filled from the border of its hole inward by the most similar known patches."""

    def fill(small: Levels, unknown: Hole, blocks: Levels) -> Levels:
        return blocks.reshape(-1, blocks.shape[2])[find_sources(small, unknown)]

    return _fill_by_patches(fill, window, hole)


def fill_patchmatch(window: Levels, hole: Hole) -> Levels:
    """Window completed by PatchMatch."""

    def fill(small: Levels, unknown: Hole, blocks: Levels) -> Levels:
        return vote(*match_patches(small, unknown), blocks)

    return _fill_by_patches(fill, window, hole)


def _fill_by_patches(fill: Callable[[Levels, Hole, Levels], Levels], window: Levels, hole: Hole) -> Levels:
    """Window filled by patches of a smaller one, where it is large, each pixel of which moves a block of the window."""
    height, width = hole.shape
    factor = -(-max(height, width) // _MAX_MATCHED_PX)
    small, unknown = reduce_picture(window, hole, factor)
    # Holes in blocks that count as known get the blocks' mean.
    means = small.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    filled = np.where(hole[..., None], means, window)
    if unknown.any():
        blocks = fill(small, unknown, np.asarray(to_blocks(filled, factor), np.uint8))
        filled = from_blocks(blocks, factor, height, width)
    return np.where(hole[..., None], filled, window)


def _fill_photo(fill: FillWindow, image: Levels, mask: Levels) -> Levels:
    filled, left = np.ascontiguousarray(image).copy(), mask > 0
    if not left.any():
        return filled
    for group in group_holes(torch.from_numpy(np.ascontiguousarray(mask)), _WINDOW_PX, _CONTEXT):
        window, hole, own = filled[group.window.place], left[group.window.place], group.holes.numpy()
        window[own] = fill(window, hole)[own]
        hole[own] = False
    return filled


METHODS: Final = {
    "telea": Classical(partial(fill_by_opencv, cv2.INPAINT_TELEA), "opencv"),
    "navier-stokes": Classical(partial(fill_by_opencv, cv2.INPAINT_NS), "opencv"),
    "biharmonic": Classical(partial(fill_by_windows, fill_biharmonic), "scikit-image"),
    "nearest-patch": Classical(partial(fill_by_windows, fill_nearest_patch), "numpy"),
    "patchmatch": Classical(partial(fill_by_windows, fill_patchmatch), "numpy"),
}
"""Methods by their names as models."""


def find_version(library: str) -> str:
    """Version of a method's library."""
    return cv2.__version__ if library == "opencv" else version(library)
