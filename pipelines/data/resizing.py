"""Photos of one size: which part of a photo is taken, to what size it comes, and by which interpolation.

In: uint8 pixels HxW or HxWx3 and a policy's name. Out: pixels of the size asked, and a line that says what was done.
The method is fixed: OpenCV's area average along every side that shrinks, then its bicubic along every side that grows.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.recipe import ShardRecipe
from pipelines.records import Refused, Rejected

Pixels = NDArray[np.uint8]
_CELEBA_PX: Final = 178

cv2.setNumThreads(0)  # a build already runs a task per core


class Resize(NamedTuple):
    """A part of a photo and the size it comes to, all px."""

    left: int
    top: int
    width: int
    height: int
    to_width: int
    to_height: int

    def at_least(self, size: tuple[int, int]) -> tuple[int, int]:
        """The smallest size of the whole photo, now of `size` (width, height), at which its part need not grow."""
        return -(-size[0] * self.to_width // self.width), -(-size[1] * self.to_height // self.height)

    def within(self, size: tuple[int, int], other: tuple[int, int]) -> "Resize":
        """The same part of a photo of `size` (width, height) after it came to an `other` size."""
        x, y = other[0] / size[0], other[1] / size[1]
        left, top = int(self.left * x), int(self.top * y)
        width = min(max(1, round(self.width * x)), other[0] - left)
        height = min(max(1, round(self.height * y)), other[1] - top)
        return self._replace(left=left, top=top, width=width, height=height)


def squash(width: int, height: int, size_px: int) -> Resize | Rejected:
    """All of it to a square, whatever its proportions; small photos are enlarged."""
    return Resize(0, 0, width, height, size_px, size_px)


def centre_square(width: int, height: int, size_px: int) -> Resize | Rejected:
    """The largest square in the middle; small photos are enlarged."""
    side = min(width, height)
    return Resize((width - side) // 2, (height - side) // 2, side, side, size_px, size_px)


def short_side(width: int, height: int, size_px: int) -> Resize | Rejected:
    """All of it, in proportion, so that the short side has this length; small photos stay as they are."""
    short = min(width, height)
    if short <= size_px:
        return Resize(0, 0, width, height, width, height)
    to_width, to_height = ((2 * side * size_px + short) // (2 * short) for side in (width, height))
    return Resize(0, 0, width, height, to_width, to_height)


def celeba_178(width: int, height: int, size_px: int) -> Resize | Rejected:
    """The 178x178 in the middle, as spectral partial networks take it of the 178x218 of CelebA; then to the size."""
    if min(width, height) < _CELEBA_PX:
        return Rejected(f"{width}x{height} holds no {_CELEBA_PX}x{_CELEBA_PX} px, which celeba-178 takes")
    left, top = (width - _CELEBA_PX) // 2, (height - _CELEBA_PX) // 2
    return Resize(left, top, _CELEBA_PX, _CELEBA_PX, size_px, size_px)


RESIZES: Final[dict[str, Callable[[int, int, int], Resize | Rejected]]] = {
    "squash": squash,
    "centre-square": centre_square,
    "short-side": short_side,
    "celeba-178": celeba_178,
}


def check_resize(recipe: ShardRecipe) -> None:
    """Raises Refused where the recipe names no policy, or a policy without a size, or a size without a policy."""
    if recipe.resize != "none" and recipe.resize not in RESIZES:
        raise Refused(f"unknown resize {recipe.resize!r}: known are none, {', '.join(RESIZES)}")
    if recipe.resize == "none" and recipe.size_px is not None:
        raise Refused(f"size_px is {recipe.size_px}, resize is 'none': name the policy, one of {', '.join(RESIZES)}")
    if recipe.resize != "none" and (recipe.size_px is None or recipe.size_px < 1):
        raise Refused(f"size_px is {recipe.size_px}: resize {recipe.resize!r} needs a size of at least 1")


def plan_resize(recipe: ShardRecipe, width: int, height: int) -> Resize | Rejected | None:
    """What the recipe does to an upright photo of this size, None where it stays as it is."""
    if recipe.size_px is None:
        return None
    resize = RESIZES[recipe.resize](width, height, recipe.size_px)
    return None if resize == (0, 0, width, height, width, height) else resize


def resized(pixels: Pixels, resize: Resize) -> tuple[Pixels, list[str]]:
    """The part at its new size, and what was done."""
    part = pixels[resize.top : resize.top + resize.height, resize.left : resize.left + resize.width]
    done, size, target = [], (resize.width, resize.height), (resize.to_width, resize.to_height)
    if part.shape != pixels.shape:
        place = f"{resize.left},{resize.top}"
        done.append(f"cropped {pixels.shape[1]}x{pixels.shape[0]} to {size[0]}x{size[1]} at {place}")
    between = (min(size[0], target[0]), min(size[1], target[1]))
    methods = ["area"] * (between != size) + ["cubic"] * (between != target)
    if between != size:
        part = cv2.resize(part, between, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if between != target:
        part = cv2.resize(part, target, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    if methods:
        done.append(f"resized {size[0]}x{size[1]} to {target[0]}x{target[1]}: {', then '.join(methods)}, OpenCV")
    return part, done
