"""Masks drawn elsewhere: read, or refused with the reason, never guessed at.

In: the bytes of a picture. Out: uint8 HxW in {0, 1}, 1 = hole. White is the hole; a mask that looks inverted is refused
with the evidence, unless the user names the color of the hole.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.records import UsageError

Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Function that turns a picture to another of the eight orientations."""

_DARK: Final = 16
"""Levels up to this one are black, those as near to white are white."""
_MAX_GRAY_SHARE = 0.05
_MAX_SOFT_SHARE = 0.5
"""For masks with soft edges: gray photos have more."""
_SUSPICIOUS_RATIO, _SUSPICIOUS_BORDER = 0.4, 0.75
_LARGEST_RATIO = 0.65
"""NVIDIA's test masks reach 0.6, with up to 75 % of their border in the hole; inverted ones mostly lie above."""


def read_mask(
    data: bytes, size: tuple[int, int], hole: str, where: str, turn: Turn = np.asarray, soft: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Mask for a photo of this (height, width), and which of its known pixels are gray.

    `hole` is auto, white or black. `turn` brings its levels HxW to the photo's orientation. A `soft` mask may be gray
    at its edges, up to half of it. Raises UsageError naming `where`: no picture, another size, gray, empty, full, or by
    all signs inverted.
    """
    gray = turn(read_gray(data, where))
    refuse_other_size((gray.shape[0], gray.shape[1]), size, where)
    mask = to_mask(gray, hole, where, soft)
    if hole == "auto":
        advice = "the color of the hole. Use --hole black if black is the hole, --hole white if white is"
        _refuse_inverted(mask, _SUSPICIOUS_RATIO, where, f"white, {advice}")
    return mask, find_gray_known(gray, hole)


def refuse_other_size(given: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Raise UsageError naming `where` unless its (height, width) is that of the photo."""
    if given != size:
        raise UsageError(
            f"{where} is {given[1]}x{given[0]}, the photo is {size[1]}x{size[0]}: give a picture of the photo's size"
        )


def to_mask(gray: NDArray[np.uint8], hole: str, where: str, soft: bool = False) -> NDArray[np.uint8]:
    """Levels HxW -> mask in {0, 1}, hole where they are nearer to the color of the hole.

    `hole` may be `transparent` beside the colors, for levels of transparency with 255 = invisible. Raises UsageError
    naming `where` for levels that are gray, empty or full.
    """
    levels = 255 - gray if hole == "black" else gray
    mask = (levels > 127).astype(np.uint8)
    _refuse_gray(levels, where, _MAX_SOFT_SHARE if soft else _MAX_GRAY_SHARE, hole)
    _refuse_one_color(mask, hole, where)
    return mask


def find_gray_known(gray: NDArray[np.uint8], hole: str) -> NDArray[np.bool_]:
    """Whether pixels of levels HxW are gray and nearer to known, as at soft edges."""
    levels = 255 - gray if hole == "black" else gray
    found: NDArray[np.bool_] = (levels > _DARK) & (levels <= 127)
    return found


def refuse_odd_file(gray: NDArray[np.uint8], hole: str, where: str) -> None:
    """Raise UsageError naming `where` for an unfit file of a mask family whose hole is white or black.

    Unfit is gray, empty, full, or more hole than any file of such a family has: then the hole is the other color.
    """
    advice = "the color of the hole in this family. Use the family whose hole has the other color"
    _refuse_inverted(to_mask(gray, hole, where), _LARGEST_RATIO, where, f"{hole}, {advice}")


def read_gray(data: bytes, where: str) -> NDArray[np.uint8]:
    """Gray levels HxW of a black and white picture; raises UsageError naming `where` for any other.

    An array of 0 and 1 saved as a picture comes as 0 and 255.
    """
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as fault:  # OpenCV's own limit of pixels
        if fault.code == cv2.Error.StsNoMem:
            raise MemoryError(f"{where}: {fault}") from None
        raise UsageError(f"{where} cannot be decoded: {fault}") from None
    if picture is None:
        raise UsageError(f"{where} is not a picture: give a mask as PNG, white where the hole is")
    gray = _take_one_channel(picture, where)
    return gray * np.uint8(255) if gray.max(initial=0) == 1 else gray


def _take_one_channel(picture: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Levels HxW of 8-bit gray; color is refused, an opaque alpha channel is dropped."""
    if picture.dtype != np.uint8:
        raise UsageError(f"{where} has {picture.dtype.itemsize * 8} bits a channel: give an 8-bit or 1-bit mask")
    if picture.ndim == 2:
        return picture.astype(np.uint8)
    if picture.shape[2] == 4 and picture[..., 3].min() < 255:
        raise UsageError(f"{where} has transparency: give a mask of black and white pixels, white where the hole is")
    if np.ptp(picture[..., :3], axis=2).max() > 8:
        raise UsageError(f"{where} is a color picture: give a mask of black and white pixels, white where the hole is")
    return np.ascontiguousarray(picture[..., 0], np.uint8)


def _refuse_gray(levels: NDArray[np.uint8], where: str, most: float, hole: str) -> None:
    share = float(((levels > _DARK) & (levels < 255 - _DARK)).mean())
    if share > most and hole == "transparent":
        raise UsageError(
            f"{where} is {share:.0%} half transparent: make the hole fully transparent. "
            "`lacuna fill --grow` takes it as it is"
        )
    if share > most:
        raise UsageError(
            f"{where} is {share:.0%} gray: give black and white pixels, white where the hole is. "
            "`lacuna fill --grow` takes soft edges"
        )


def _refuse_one_color(mask: NDArray[np.uint8], hole: str, where: str) -> None:
    ratio = float(mask.mean())
    if ratio in (0.0, 1.0):
        color = "white" if hole == "auto" else hole
        state = f"empty: no pixel is {color}" if ratio == 0 else f"full: every pixel is {color}"
        raise UsageError(f"{where} is {state}. Give a hole with something around it (hole color: {hole})")


def _refuse_inverted(mask: NDArray[np.uint8], most: float, where: str, color: str) -> None:
    """Raise UsageError, with the color and advice, where more than `most` of the mask and its border are hole."""
    ratio, border = float(mask.mean()), float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    if ratio > most and border > _SUSPICIOUS_BORDER:
        raise UsageError(f"{where} looks inverted: {ratio:.0%} of it and {border:.0%} of its border are {color}")
