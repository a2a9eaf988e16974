"""Pairs of another system's results: photo, mask, the result as it is given, and with the photo's known pixels.

In: the files of a pair and what the hole looks like. Out: a `ResultPair`.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np

from pipelines.decoding import Picture
from pipelines.evaluation.result_files import read_opaque
from pipelines.evaluation.result_holes import COLORS, Files, read_hole_mask, to_levels
from pipelines.records import UsageError, sha256_hex

_CHANCE_RATIO: Final = 0.05
"""Hole ratio up to which a fill may equal its photo in every pixel, as on a white ground."""


class KnownChange(NamedTuple):
    """Difference between a result as it is given and its photo, over the known pixels."""

    max_levels: int
    """Largest difference of a channel, 0 to 255."""
    share: float
    """Share of known pixels of which a channel differs, in [0, 1]."""
    mean_levels: float
    """Mean absolute difference over pixels and channels, 0 to 255."""


@dataclass(frozen=True)
class ResultPair:
    """A photo with its hole, and a system's result."""

    key: str
    spec: str
    """Line that names the mask by its size and pixels: equal for equal masks, whatever their files look like."""
    mask_file: str
    """URI of the mask."""
    image: Picture
    """uint8 HxWx3, RGB."""
    mask: Picture
    """uint8 HxW in {0, 1}, 1 = hole."""
    given: Picture
    """The result as it is, uint8 HxWx3."""
    composed: Picture
    """The result in the hole, the photo elsewhere."""
    change: KnownChange
    notes: tuple[str, ...]
    """Conversions, and what else a reader of the scores should know of this pair."""


def read_result_pair(key: str, files: Files, color: str) -> ResultPair:
    """The pair of these files; `color` is what the hole looks like in the mask.

    Raises UsageError naming a file that cannot be decoded, is partly transparent, or whose mask is the wrong way round;
    CorruptDataError for one that changed since it was inspected.
    """
    image, of_photo = read_opaque(files.photo)
    given, of_result = read_opaque(files.result, files.photo.header)
    mask, num_gray = read_hole_mask(files.mask, files.photo.header, color)
    difference = np.asarray(cv2.absdiff(given, image), np.uint8)
    change = _measure_change(difference, 1 - mask)
    if change.max_levels > 0:
        _refuse_inverted(difference, mask, files)
    composed = np.asarray(cv2.copyTo(given, mask, image.copy()), np.uint8)
    notes = [f"photo: {note}" for note in of_photo] + [f"result: {note}" for note in of_result]
    notes += ["result: gray, its photo is in color"] if _is_gray(given) and not _is_gray(image) else []
    notes += [f"mask: {num_gray} gray pixels count as known, as they are nearer to it"] if num_gray else []
    notes += _note_same_color(image, mask, color)
    return ResultPair(key, _make_spec(mask), files.mask.uri, image, mask, given, composed, change, tuple(notes))


def _refuse_inverted(difference: Picture, mask: Picture, files: Files) -> None:
    """Raise UsageError where known pixels differ from the photo and none in the hole, as with an inverted mask.

    A fill of a few pixels may equal the photo by chance.
    """
    if mask.mean() > _CHANCE_RATIO and not difference[mask > 0].any():
        raise UsageError(
            f"{files.result.uri} equals its photo in the hole and differs elsewhere: the mask {files.mask.uri} is "
            "inverted or of another photo. Use the other --hole, or give its own mask"
        )


def _measure_change(difference: Picture, known: Picture) -> KnownChange:
    """Change of known pixels, from differences HxWx3 in levels and the mask of known pixels in {0, 1}."""
    red, green, blue = cv2.split(difference)
    largest = cv2.bitwise_and(cv2.max(cv2.max(red, green), blue), known * np.uint8(255))
    share = cv2.countNonZero(largest) / cv2.countNonZero(known)
    return KnownChange(int(largest.max()), share, float(np.mean(cv2.mean(difference, known)[:3])))


def _is_gray(pixels: Picture) -> bool:
    red, green, blue = cv2.split(pixels)
    return np.array_equal(red, green) and np.array_equal(green, blue)


def _note_same_color(image: Picture, mask: Picture, color: str) -> list[str]:
    """Note on pixels of the photo that have the color of the hole, so that nothing says whether they are known."""
    if color in (*COLORS, "alpha"):
        return []
    count = int(np.count_nonzero((image == to_levels(color)).all(axis=2) & (mask > 0)))
    return [f"mask: {count} pixels of the photo are {color} themselves and count as hole"] if count else []


def _make_spec(mask: Picture) -> str:
    height, width = mask.shape
    return f"foreign {height}x{width} sha256={sha256_hex(np.packbits(mask).tobytes())}"
