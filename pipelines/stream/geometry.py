"""From a stored picture to the network's input: decoding, and the papers' ways to crop and resize, by name.

In: bytes of a JPEG, PNG or WebP. Out: uint8 RGB SxSx3. A policy chooses a view by the picture's size and its sample's
generator; that view is then taken of the photo and of its planes, at any size. Resizing is OpenCV's: area where it
shrinks, cubic where it enlarges, nearest neighbors for planes, so that no value is new.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np

from pipelines.decoding import Picture, decode_levels, decode_photo
from pipelines.keyed_rng import KeyedRng
from pipelines.records import CorruptDataError

cv2.setNumThreads(0)  # a loader worker has one core to itself


class View(NamedTuple):
    """Part of a picture, in px, and the square that it is resized to."""

    top: int
    left: int
    height: int
    width: int
    size_px: int
    quarter_turns: int = 0
    phase: tuple[int, int] | None = None
    """First row and column of DeepGIN's policy: the part is resized to twice the size and every second pixel taken."""


def decode(data: bytes, key: str, into: Picture | None = None) -> Picture:
    """Bytes of an 8-bit picture -> RGB HxWx3, in `into` if it is a JPEG of just its size.

    Raises CorruptDataError naming the key. The build decodes by the same code, so a picture sound there is sound here.
    """
    try:
        return decode_photo(data, into).pixels
    except (ValueError, cv2.error) as fault:
        raise CorruptDataError(f"the picture of {key} cannot be decoded: {str(fault)[:120]}") from None


def decode_plane(data: bytes, name: str, key: str) -> Picture:
    """Bytes of a plane's PNG -> HxWxC with C its channels (RGB order), HxWx1 if it is gray; raises CorruptDataError."""
    try:
        return decode_levels(data)
    except (ValueError, cv2.error) as fault:
        raise CorruptDataError(f"the {name} of {key} cannot be decoded: {str(fault)[:120]}") from None


def _squash(height: int, width: int, size_px: int, rng: KeyedRng) -> View:
    """Whole picture, its aspect ratio not kept (SPN, MHTMA)."""
    return View(0, 0, height, width, size_px)


def _center_square(height: int, width: int, size_px: int, rng: KeyedRng) -> View:
    """Square in the middle, of the short side's length; on CelebA its 178x178 center crop."""
    side = min(height, width)
    return View((height - side) // 2, (width - side) // 2, side, side, size_px)


def _random_square(height: int, width: int, size_px: int, rng: KeyedRng) -> View:
    """Square of half to all of the short side (not below the final size where possible), anywhere in the picture."""
    short = min(height, width)
    return _place_square(height, width, rng.integer(min(short, max(size_px, short // 2)), short), size_px, rng)


def _random_crop(height: int, width: int, size_px: int, rng: KeyedRng) -> View:
    """Square of the final size, anywhere in the picture, not resized; in a smaller picture, of its short side."""
    return _place_square(height, width, min(height, width, size_px), size_px, rng)


def _place_square(height: int, width: int, side: int, size_px: int, rng: KeyedRng) -> View:
    top, left = (rng.integer(0, length - side) for length in (height, width))
    return View(top, left, side, side, size_px)


def _polyphase(height: int, width: int, size_px: int, rng: KeyedRng) -> View:
    """DeepGIN's view: cubic resize to twice the size, a quarter turn, every second pixel of one of four phases."""
    turns = rng.integer(0, 3)
    return View(0, 0, height, width, size_px, turns, (rng.integer(0, 1), rng.integer(0, 1)))


RESIZES: dict[str, Callable[[int, int, int, KeyedRng], View]] = {
    "squash": _squash,
    "centre-square": _center_square,
    "random-square": _random_square,
    "random-crop": _random_crop,
    "polyphase": _polyphase,
}

HELD_OUT: Final = {"random-square": "centre-square", "polyphase": "squash"}
"""Policies that turn or crop photos at random -> the policy that scores a training with them: upright photos, and as
much of each as the policy shows."""


def resize_square(image: Picture, policy: str, size_px: int, rng: KeyedRng, *, nearest: bool = False) -> Picture:
    """HxWx3 -> SxSx3 by a policy of RESIZES."""
    return extract_view(image, RESIZES[policy](image.shape[0], image.shape[1], size_px, rng), nearest)


def extract_view(picture: Picture, view: View, nearest: bool = False) -> Picture:
    """View of the picture: HxWxC -> SxSxC."""
    part = picture[view.top : view.top + view.height, view.left : view.left + view.width]
    if view.phase is None:
        return np.ascontiguousarray(_resize(part, view.size_px, cv2.INTER_NEAREST_EXACT if nearest else None))
    doubled = _resize(part, 2 * view.size_px, cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_CUBIC)
    turned = np.rot90(doubled, view.quarter_turns)
    return np.ascontiguousarray(turned[view.phase[0] :: 2, view.phase[1] :: 2])


def _resize(part: Picture, size_px: int, method: int | None) -> Picture:
    """HxWxC -> SxSxC, both sides scaled on their own; area or cubic unless a method is given."""
    if part.shape[:2] == (size_px, size_px):
        return part
    if method is None:
        method = cv2.INTER_AREA if min(part.shape[:2]) >= size_px else cv2.INTER_CUBIC
    small = cv2.resize(part, (size_px, size_px), interpolation=method)
    return np.asarray(small, np.uint8).reshape(size_px, size_px, -1)
