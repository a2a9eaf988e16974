"""Pairs of another system's results: photo, mask, the result as it is given, and with the photo's known pixels.

In: the files of a pair and what the hole looks like. Out: a `ResultPair`.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

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
    mask = read_hole_mask(files.mask, files.photo.header, color)
    difference = np.abs(given.astype(np.int16) - image)
    hole = mask.astype(bool)
    _refuse_inverted(difference, hole, files)
    composed = np.where(hole[:, :, None], given, image)
    notes = [f"photo: {note}" for note in of_photo] + [f"result: {note}" for note in of_result]
    notes += ["result: gray, its photo is in color"] if _is_gray(given) and not _is_gray(image) else []
    notes += _note_same_color(image, hole, color)
    change = _measure_change(difference[~hole])
    return ResultPair(key, _make_spec(mask), files.mask.uri, image, mask, given, composed, change, tuple(notes))


def _refuse_inverted(difference: np.ndarray, hole: np.ndarray, files: Files) -> None:
    """Raise UsageError where only known pixels differ from the photo, as with a mask the wrong way round.

    A fill of a few pixels may equal the photo by chance.
    """
    if hole.mean() > _CHANCE_RATIO and not difference[hole].any() and difference[~hole].any():
        raise UsageError(
            f"{files.result.uri} equals its photo in the hole and differs elsewhere: the mask {files.mask.uri} is "
            "inverted or of another photo. Use the other --hole, or give its own mask"
        )


def _is_gray(pixels: Picture) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _measure_change(difference: np.ndarray) -> KnownChange:
    """Change of known pixels, from differences Nx3 in levels."""
    share = float(difference.any(axis=1).mean())
    return KnownChange(int(difference.max()), share, float(difference.mean()))


def _note_same_color(image: Picture, hole: np.ndarray, color: str) -> list[str]:
    """Note on pixels of the photo that have the color of the hole, so that nothing says whether they are known."""
    if color in (*COLORS, "alpha"):
        return []
    count = int(np.count_nonzero((image == to_levels(color)).all(axis=2) & hole))
    return [f"mask: {count} pixels of the photo are {color} themselves and count as hole"] if count else []


def _make_spec(mask: Picture) -> str:
    height, width = mask.shape
    return f"foreign {height}x{width} sha256={sha256_hex(np.packbits(mask).tobytes())}"
