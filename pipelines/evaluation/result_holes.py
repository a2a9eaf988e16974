"""The hole in another system's masks: white, black, transparent, or a color inside its masked inputs.

In: files of masks, or of masked inputs. Out: masks uint8 HxW in {0, 1}, 1 = hole. What the hole looks like is decided
for a whole folder, never file by file: by what the pictures are, and by where results differ from their photos.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.image.header import Header
from pipelines.decoding import Picture
from pipelines.evaluation.result_files import PictureFile, read_layers, read_opaque
from pipelines.filling.orientation import lay_on
from pipelines.filling.pairing import join_some
from pipelines.masks.foreign import find_gray_known, read_gray, to_mask
from pipelines.records import UsageError

COLORS: Final = ("white", "black")
_HEX: Final = re.compile(r"#[0-9a-f]{6}")
_MAX_SPREAD: Final = 8
"""Largest difference of the channels of a gray pixel, levels, as in `pipelines.masks.foreign`."""
_NUM_PROBES: Final = 32
_LEAST_CONTRAST: Final = 1.5
"""Least ratio of the mean differences in white and black for a decision: composed results have an infinite one."""
_DECODES_AT_ONCE: Final = 4
_SUSPICIOUS_RATIO: Final = 0.5
_NUM_COLORED: Final = 8
"""Masked inputs among which a color that all share is sought, for a message."""

T = TypeVar("T")


class Files(NamedTuple):
    """Files of one pair."""

    photo: PictureFile
    result: PictureFile
    mask: PictureFile


@dataclass(frozen=True)
class HoleChoice:
    """Appearance of the hole in all masks of a folder."""

    color: str
    """white, black, alpha, or a color such as #ff0000."""
    evidence: str
    """Reason in words, for table and passport."""


def choose_hole(hole: str, pairs: Sequence[Files]) -> HoleChoice:
    """Appearance of the hole; raises UsageError for an unknown one, and where `auto` cannot decide."""
    if hole != "auto":
        color = hole.lower()
        if color not in (*COLORS, "alpha") and _HEX.fullmatch(color) is None:
            raise UsageError(f"--hole is {hole!r}: use auto, white, black, alpha, or a color such as #ff0000")
        return HoleChoice(color, "as --hole says")
    kinds = _classify_all(pairs)
    if len(set(kinds)) > 1:
        examples = [f"{pairs[kinds.index(kind)].mask.uri} is {kind}" for kind in sorted(set(kinds))]
        raise UsageError(f"--masks holds different kinds: {join_some(examples)}; give one kind")
    if kinds[0] == "transparent":
        return HoleChoice("alpha", f"all {len(pairs)} masks have transparent pixels")
    if kinds[0] == "a color picture":
        raise UsageError(
            f"--masks holds color pictures: {pairs[0].mask.uri}; name the color of the hole, such as --hole "
            f"{_find_common_color(pairs)}, where these are the masked inputs"
        )
    return _choose_by_difference(pairs)


def check_masks(pairs: Sequence[Files], choice: HoleChoice, hole: str) -> None:
    """Raise UsageError naming the masks that are gray, empty, full or not of this appearance.

    Where `hole` is auto, masks that look inverted beside the others are refused, too.
    """
    check = _find_inversion if hole == "auto" and choice.color in COLORS else _decode_only
    refused = [line for line in _map_pairs(lambda files: _find_refusal(files, choice.color, check), pairs) if line]
    if len(refused) == 1:
        raise UsageError(refused[0])
    if refused:
        raise UsageError(f"{len(refused)} of {len(pairs)} masks are refused: {join_some(refused)}")


def read_hole_mask(file: PictureFile, photo: Header, color: str) -> tuple[Picture, int]:
    """Mask HxW in {0, 1} as the photo lies, and its number of gray pixels that count as known.

    Raises UsageError naming a file that is none of this appearance.
    """
    if color in COLORS:
        turn = lay_on(photo, file.header.orientation, "auto", file.uri)
        levels = turn(read_gray(file.read(), file.uri))
        return to_mask(levels, color, file.uri), int(find_gray_known(levels, color).sum())
    if color == "alpha":
        layers, _ = read_layers(file, photo)
        if layers.ndim == 2 or layers.shape[2] != 4:
            raise UsageError(f"{file.uri} has no transparency: use --hole white, black or a color")
        levels = 255 - layers[..., 3]
        return to_mask(levels, "transparent", file.uri), int(find_gray_known(levels, "transparent").sum())
    return _read_color_mask(file, photo, color), 0


def to_levels(color: str) -> NDArray[np.uint8]:
    """Levels of R, G and B of a color such as #ff0000."""
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8)


def _read_color_mask(file: PictureFile, photo: Header, color: str) -> Picture:
    """Pixels of exactly this color."""
    data = file.read()
    if file.header.format == "JPEG" or (file.header.format == "WEBP" and b"VP8L" not in data):
        raise UsageError(
            f"{file.uri} is a lossy {file.header.format}: its colors are not exact. Give masked inputs as PNG"
        )
    pixels, _ = read_opaque(file, photo)
    mask: Picture = (pixels == to_levels(color)).all(axis=2).astype(np.uint8)
    if mask.all():
        raise UsageError(f"{file.uri} is full: every pixel is {color}. Give a hole with something around it")
    if not mask.any():
        raise UsageError(
            f"{file.uri} has no pixel of {color}: the nearest color in it is {_find_nearest(pixels, color)}"
        )
    return mask


def _find_nearest(pixels: Picture, color: str) -> str:
    """The color among the pixels HxWx3 that is nearest to another."""
    distinct = np.unique(pixels.reshape(-1, 3), axis=0)
    distances = np.square(distinct.astype(np.int64) - to_levels(color)).sum(axis=1)
    return _format_color(distinct[distances.argmin()])


def _format_color(levels: NDArray[np.uint8]) -> str:
    return f"#{bytes(levels).hex()}"


def _find_common_color(pairs: Sequence[Files]) -> str:
    """The color with most pixels among those that some of the masked inputs share, or of the first if there is none."""
    counted = []
    for files in pairs[:_NUM_COLORED]:
        colors, counts = np.unique(read_opaque(files.mask)[0].reshape(-1, 3), axis=0, return_counts=True)
        counted.append(dict(zip(map(_format_color, colors), counts.tolist(), strict=True)))
    shared = set(counted[0]).intersection(*counted[1:]) or set(counted[0])
    return max(sorted(shared), key=lambda color: sum(counts.get(color, 0) for counts in counted))


def _classify_all(pairs: Sequence[Files]) -> list[str]:
    """Kind of each mask: transparent, a color picture, or black and white."""
    return _map_pairs(lambda files: _classify(files.mask), pairs)


def _classify(file: PictureFile) -> str:
    pixels, _ = read_layers(file)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[..., 3].min() < 255:
        return "transparent"
    return "black and white" if pixels.ndim == 2 or _measure_spread(pixels) <= _MAX_SPREAD else "a color picture"


def _measure_spread(pixels: Picture) -> int:
    """Largest difference between two channels of a pixel, levels."""
    red, green, blue = cv2.split(np.ascontiguousarray(pixels[..., :3]))
    return max(int(cv2.absdiff(one, other).max()) for one, other in ((red, green), (green, blue), (red, blue)))


def _choose_by_difference(pairs: Sequence[Files]) -> HoleChoice:
    """White or black, whichever side of the masks has the larger difference between results and photos."""
    chosen = [pairs[i] for i in sorted(set(np.linspace(0, len(pairs) - 1, _NUM_PROBES).astype(int)))]
    measured = _map_pairs(lambda files: _measure_difference(files, "white"), chosen)
    white, black = (float(values) for values in np.mean(measured, axis=0))
    color, low, high = ("white", black, white) if white > black else ("black", white, black)
    facts = f"results differ from photos by {white:.1f} levels in white, by {black:.1f} in black"
    if high < _LEAST_CONTRAST * low or high == 0:
        raise UsageError(f"--hole auto cannot decide: {facts}. Say --hole white or --hole black")
    return HoleChoice(color, f"{facts} (mean over {len(chosen)} pairs)")


def _measure_difference(files: Files, color: str) -> tuple[float, float]:
    """Mean absolute difference of result and photo, levels, inside the hole of this color and outside."""
    mask = read_hole_mask(files.mask, files.photo.header, color)[0].astype(bool)
    photo, _ = read_opaque(files.photo)
    result, _ = read_opaque(files.result, files.photo.header)
    difference = np.abs(photo.astype(np.int16) - result).mean(axis=2)
    return float(difference[mask].mean()), float(difference[~mask].mean())


Check = Callable[[Files, str, Picture], None]


def _find_refusal(files: Files, color: str, check: Check) -> str | None:
    """Reason to refuse a mask, with its name, or None."""
    try:
        check(files, color, read_hole_mask(files.mask, files.photo.header, color)[0])
    except UsageError as refusal:
        return str(refusal)
    return None


def _decode_only(_files: Files, _color: str, _mask: Picture) -> None:
    """Accept any mask that could be read."""


def _find_inversion(files: Files, color: str, mask: Picture) -> None:
    """Raise UsageError for a mask with a large hole around which the result differs more than inside."""
    if mask.mean() <= _SUSPICIOUS_RATIO:
        return
    inside, outside = _measure_difference(files, color)
    if outside > _LEAST_CONTRAST * inside:
        raise UsageError(
            f"{files.mask.uri} looks inverted: the hole is {color} in the others, but here the result differs by "
            f"{inside:.1f} levels in {color} and by {outside:.1f} elsewhere. Invert it, or say --hole {color}"
        )


def _map_pairs(function: Callable[[Files], T], pairs: Sequence[Files]) -> list[T]:
    """Results of a function for all pairs, in their order, several at once."""
    with ThreadPoolExecutor(_DECODES_AT_ONCE) as pool:
        return list(pool.map(function, pairs))
