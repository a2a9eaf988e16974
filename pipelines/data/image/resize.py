"""Resizing of photos: crop, target size and interpolation.

In: uint8 pixels HxW or HxWx3 and a policy's name. Out: pixels of the target size, and lines that list the steps. The
sizes alone decide the method. Whole multiples are averaged by OpenCV's area. Up to twice the target, bicubic follows a
small blur; up to four times, the same goes to twice the target, which is then halved: twice as fast as area, and nearer
to Pillow's bicubic (docs/log.md). Otherwise area reduces the sides that shrink, bicubic enlarges those that grow.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.config import DatasetConfig
from pipelines.records import Rejected, UsageError

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height."""
_CELEBA_PX: Final = 178
_SMOOTHING: Final = 61
"""Weight of a neighbor in the blur, in 256ths, times (side / target - 1)."""
_BEFORE_HALVING: Final = 20
"""Weight that is added where halving follows."""

cv2.setNumThreads(0)  # a build already runs a task per core


class Resize(NamedTuple):
    """A part of a photo and its target size, all px."""

    left: int
    top: int
    width: int
    height: int
    to_width: int
    to_height: int

    def at_least(self, size: tuple[int, int]) -> tuple[int, int]:
        """Smallest size of the whole photo, now of `size` (width, height), at which its part need not grow."""
        return -(-size[0] * self.to_width // self.width), -(-size[1] * self.to_height // self.height)

    def within(self, size: tuple[int, int], other: tuple[int, int]) -> "Resize":
        """This part of a photo of `size` (width, height) after the photo was brought to an `other` size."""
        x, y = other[0] / size[0], other[1] / size[1]
        left, top = int(self.left * x), int(self.top * y)
        width = min(max(1, round(self.width * x)), other[0] - left)
        height = min(max(1, round(self.height * y)), other[1] - top)
        return self._replace(left=left, top=top, width=width, height=height)


def plan_squash(width: int, height: int, size_px: int) -> Resize | Rejected:
    """Resize of the whole photo to a square, whatever its proportions; small photos are enlarged."""
    return Resize(0, 0, width, height, size_px, size_px)


def plan_center_square(width: int, height: int, size_px: int) -> Resize | Rejected:
    """Resize of the largest square in the center; small photos are enlarged."""
    side = min(width, height)
    return Resize((width - side) // 2, (height - side) // 2, side, side, size_px, size_px)


def plan_short_side(width: int, height: int, size_px: int) -> Resize | Rejected:
    """Resize of the whole photo, in proportion, to a short side of this length; small photos keep their size."""
    short = min(width, height)
    if short <= size_px:
        return Resize(0, 0, width, height, width, height)
    to_width, to_height = ((2 * side * size_px + short) // (2 * short) for side in (width, height))
    return Resize(0, 0, width, height, to_width, to_height)


def plan_celeba_178(width: int, height: int, size_px: int) -> Resize | Rejected:
    """Resize of the central 178x178, as spectral partial networks crop the 178x218 of CelebA."""
    if min(width, height) < _CELEBA_PX:
        return Rejected(f"{width}x{height} holds no {_CELEBA_PX}x{_CELEBA_PX} px, which celeba-178 takes")
    left, top = (width - _CELEBA_PX) // 2, (height - _CELEBA_PX) // 2
    return Resize(left, top, _CELEBA_PX, _CELEBA_PX, size_px, size_px)


RESIZES: Final[dict[str, Callable[[int, int, int], Resize | Rejected]]] = {
    "squash": plan_squash,
    "centre-square": plan_center_square,
    "short-side": plan_short_side,
    "celeba-178": plan_celeba_178,
}


def check_resize(config: DatasetConfig) -> None:
    """Raise UsageError for an unknown policy, a policy without a size, or a size without a policy."""
    if config.resize != "none" and config.resize not in RESIZES:
        raise UsageError(f"unknown resize {config.resize!r}: use one of none, {', '.join(RESIZES)}")
    if config.resize == "none" and config.size_px is not None:
        raise UsageError(f"size_px is {config.size_px}, resize is 'none': name the policy, one of {', '.join(RESIZES)}")
    if config.resize != "none" and (config.size_px is None or config.size_px < 1):
        raise UsageError(f"size_px is {config.size_px}: resize {config.resize!r} needs a size of at least 1")


def plan_resize(config: DatasetConfig, width: int, height: int) -> Resize | Rejected | None:
    """Resize of an upright photo of this size under the config, None where the photo stays as it is."""
    if config.size_px is None:
        return None
    resize = RESIZES[config.resize](width, height, config.size_px)
    return None if resize == (0, 0, width, height, width, height) else resize


def resize_photo(pixels: Pixels, resize: Resize) -> tuple[Pixels, list[str]]:
    """Pixels of the part at its target size, and lines that list the steps."""
    part = pixels[resize.top : resize.top + resize.height, resize.left : resize.left + resize.width]
    done, size, target = [], (resize.width, resize.height), (resize.to_width, resize.to_height)
    if part.shape != pixels.shape:
        place = f"{resize.left},{resize.top}"
        done.append(f"cropped {pixels.shape[1]}x{pixels.shape[0]} to {size[0]}x{size[1]} at {place}")
    part, method = _scale_part(part, size, target)
    if method:
        done.append(f"resized {size[0]}x{size[1]} to {target[0]}x{target[1]}: {method}, OpenCV")
    return part, done


def _scale_part(part: Pixels, size: Size, target: Size) -> tuple[Pixels, str]:
    """The part, of `size`, at the target size, and the name of the method."""
    sides = list(zip(size, target, strict=True))
    if size == target:
        return part, ""
    if all(side <= to for side, to in sides):
        return _interpolate(part, target, cv2.INTER_CUBIC), "cubic"
    if all(side % to == 0 for side, to in sides):
        return _interpolate(part, target, cv2.INTER_AREA), "area"
    if all(side <= 2 * to for side, to in sides):
        return _interpolate_smoothly(part, size, target, 0), "smoothed cubic"
    if all(2 * to <= side <= 4 * to for side, to in sides):
        twice = _interpolate_smoothly(part, size, (2 * target[0], 2 * target[1]), _BEFORE_HALVING)
        return _interpolate(twice, target, cv2.INTER_AREA), "smoothed cubic, then halved"
    between = min(size[0], target[0]), min(size[1], target[1])
    small = _interpolate(part, between, cv2.INTER_AREA)
    return (small, "area") if between == target else (_interpolate(small, target, cv2.INTER_CUBIC), "area, then cubic")


def _interpolate(part: Pixels, target: Size, interpolation: int) -> Pixels:
    return cv2.resize(part, target, interpolation=interpolation).astype(np.uint8, copy=False)


def _interpolate_smoothly(part: Pixels, size: Size, target: Size, least: int) -> Pixels:
    """The part by bicubic, after a blur of three pixels along each side that shrinks, stronger for larger factors."""
    blurs = []
    for side, to in zip(size, target, strict=True):
        edge = (_SMOOTHING * (side - to) + to // 2) // to + least if side > to else 0
        blurs.append(np.array([edge, 256 - 2 * edge, edge], np.float32) / np.float32(256))
    soft = cv2.sepFilter2D(part, -1, blurs[0], blurs[1], borderType=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    return _interpolate(soft, target, cv2.INTER_CUBIC)
