"""From a stored picture to what a network sees: decoding, and the papers' ways to crop and resize, by name.

In: bytes of a JPEG, PNG or WebP. Out: uint8 RGB SxSx3. A policy looks at sizes and the chance of its sample and says
which view is taken; the same view is then taken of the photo, of its planes and at any size. Resizing is OpenCV's: area
where it shrinks, cubic where it enlarges, nearest neighbours for planes, so that no value is new.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np

from pipelines.decoding import Picture, decode_levels, decode_photo
from pipelines.keyed_rng import KeyedRng
from pipelines.records import CorruptDataError

cv2.setNumThreads(0)  # a loader is a process of its own, with a core to itself


class View(NamedTuple):
    """A part of a picture, in px, and the square that it comes to."""

    top: int
    left: int
    height: int
    width: int
    size_px: int
    quarter_turns: int = 0
    phase: tuple[int, int] | None = None
    """Of DeepGIN: the part comes to twice the size, and every second pixel is taken, from this row and column on."""


def decode(data: bytes, key: str, into: Picture | None = None) -> Picture:
    """Bytes of an 8-bit picture -> RGB HxWx3, in `into` if it is a JPEG of just its size.

    Raises CorruptDataError with the key.

    The decision is that of the build (`pipelines.decoding`), so what was found sound there is sound here.
    """
    try:
        return decode_photo(data, into).pixels
    except (ValueError, cv2.error) as fault:
        raise CorruptDataError(f"the picture of {key} cannot be decoded: {str(fault)[:120]}") from None


def decode_plane(data: bytes, name: str, key: str) -> Picture:
    """Bytes of a plane's PNG -> HxWxC with C its channels (RGB order), HxWx1 if it is grey; raises CorruptDataError."""
    try:
        return decode_levels(data)
    except (ValueError, cv2.error) as fault:
        raise CorruptDataError(f"the {name} of {key} cannot be decoded: {str(fault)[:120]}") from None


def _squash(height: int, width: int, size_px: int, chance: KeyedRng) -> View:
    """The whole picture, its aspect ratio not kept (SPN, MHTMA)."""
    return View(0, 0, height, width, size_px)


def _centre_square(height: int, width: int, size_px: int, chance: KeyedRng) -> View:
    """The square in the middle, of the short side's length; on CelebA its 178x178 centre crop."""
    side = min(height, width)
    return View((height - side) // 2, (width - side) // 2, side, side, size_px)


def _random_square(height: int, width: int, size_px: int, chance: KeyedRng) -> View:
    """A square of half to all of the short side (not under the final size if it can be), anywhere in the picture."""
    short = min(height, width)
    return _anywhere(height, width, chance.integer(min(short, max(size_px, short // 2)), short), size_px, chance)


def _random_crop(height: int, width: int, size_px: int, chance: KeyedRng) -> View:
    """A square of the final size, anywhere in the picture, not resized; in a smaller one of its short side."""
    return _anywhere(height, width, min(height, width, size_px), size_px, chance)


def _anywhere(height: int, width: int, side: int, size_px: int, chance: KeyedRng) -> View:
    top, left = (chance.integer(0, length - side) for length in (height, width))
    return View(top, left, side, side, size_px)


def _polyphase(height: int, width: int, size_px: int, chance: KeyedRng) -> View:
    """DeepGIN's: cubic resize to twice the size, a quarter turn, every second pixel of one of four phases."""
    turns = chance.integer(0, 3)
    return View(0, 0, height, width, size_px, turns, (chance.integer(0, 1), chance.integer(0, 1)))


RESIZES: dict[str, Callable[[int, int, int, KeyedRng], View]] = {
    "squash": _squash,
    "centre-square": _centre_square,
    "random-square": _random_square,
    "random-crop": _random_crop,
    "polyphase": _polyphase,
}

HELD_OUT: Final = {"random-square": "centre-square", "polyphase": "squash"}
"""Policies that turn or cut photos by chance, and by which one a training with them is scored: upright photos, and as
much of each as the policy shows."""


def resize_square(image: Picture, policy: str, size_px: int, chance: KeyedRng) -> Picture:
    """HxWx3 -> SxSx3 by a policy of RESIZES."""
    return show(image, RESIZES[policy](image.shape[0], image.shape[1], size_px, chance))


def show(picture: Picture, view: View, nearest: bool = False) -> Picture:
    """HxWxC -> SxSxC: the view of the picture."""
    part = picture[view.top : view.top + view.height, view.left : view.left + view.width]
    if view.phase is None:
        return np.ascontiguousarray(_resized(part, view.size_px, cv2.INTER_NEAREST_EXACT if nearest else None))
    doubled = _resized(part, 2 * view.size_px, cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_CUBIC)
    turned = np.rot90(doubled, view.quarter_turns)
    return np.ascontiguousarray(turned[view.phase[0] :: 2, view.phase[1] :: 2])


def _resized(part: Picture, size_px: int, method: int | None) -> Picture:
    """HxWxC -> SxSxC, sides scaled apart; area or cubic unless a method is named."""
    if part.shape[:2] == (size_px, size_px):
        return part
    if method is None:
        method = cv2.INTER_AREA if min(part.shape[:2]) >= size_px else cv2.INTER_CUBIC
    small = cv2.resize(part, (size_px, size_px), interpolation=method)
    return np.asarray(small, np.uint8).reshape(size_px, size_px, -1)
