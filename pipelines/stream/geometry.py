"""From a stored picture to what a network sees: decoding, and the papers' ways to crop and resize, by name.

In: bytes of a JPEG, PNG or WebP. Out: uint8 RGB SxSx3. Resizing is OpenCV's: area where it shrinks, cubic where it
enlarges. A policy gets the chance of its sample and nothing else, so that crops do not depend on who draws them.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.records import Damaged

Picture = NDArray[np.uint8]


def decode(data: bytes, key: str) -> Picture:
    """Bytes of an 8-bit picture -> RGB HxWx3; raises Damaged naming the key."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise Damaged(f"the picture of {key} cannot be decoded")
    return np.asarray(image, np.uint8)


def resize(image: Picture, size_px: int) -> Picture:
    """HxWx3 -> SxSx3, sides scaled apart."""
    shrinks = min(image.shape[:2]) >= size_px
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size_px, size_px), interpolation=method), np.uint8)


def _squash(image: Picture, size_px: int, chance: Chance) -> Picture:
    """The whole picture, its aspect ratio not kept (SPN, MHTMA)."""
    return resize(image, size_px)


def _centre_square(image: Picture, size_px: int, chance: Chance) -> Picture:
    """The square in the middle, of the short side's length; on CelebA its 178x178 centre crop."""
    side = min(image.shape[:2])
    return resize(_cut(image, (image.shape[0] - side) // 2, (image.shape[1] - side) // 2, side), size_px)


def _random_square(image: Picture, size_px: int, chance: Chance) -> Picture:
    """A square of half to all of the short side (not under the final size if it can be), anywhere in the picture."""
    short = min(image.shape[:2])
    side = chance.integer(min(short, max(size_px, short // 2)), short)
    top, left = (chance.integer(0, length - side) for length in image.shape[:2])
    return resize(_cut(image, top, left, side), size_px)


def _polyphase(image: Picture, size_px: int, chance: Chance) -> Picture:
    """DeepGIN's: cubic resize to twice the size, a quarter turn, every second pixel of one of four phases."""
    doubled = cv2.resize(image, (2 * size_px, 2 * size_px), interpolation=cv2.INTER_CUBIC)
    turned = np.rot90(doubled, chance.integer(0, 3))
    return np.ascontiguousarray(turned[chance.integer(0, 1) :: 2, chance.integer(0, 1) :: 2], np.uint8)


def _cut(image: Picture, top: int, left: int, side: int) -> Picture:
    return np.ascontiguousarray(image[top : top + side, left : left + side])


RESIZES: dict[str, Callable[[Picture, int, Chance], Picture]] = {
    "squash": _squash,
    "centre-square": _centre_square,
    "random-square": _random_square,
    "polyphase": _polyphase,
}
