"""Detection of masks among pictures: `x_mask000.png` beside `x.png`, `masks/x.png` beside `images/x.jpg`.

In: names and pixels. Out: the paths where the photo of a mask would lie, and the reasons to reject a mask. The word
mask in a name and a photo of that name suffice, unless the colors are those of a photo: a person with a mask. Without
such a photo, or with a weaker word (`x_hole.png`, `x_m.png`), a picture is a mask only if it has the flat colors of
one. Listing, scan and the resolution of keys share these rules.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import name_memory_faults, read_upright_pixels

_NAME: Final = re.compile(r"(?:^|/)masks?/|(?:^|[-_. /])masks?(?=$|[-_. /\d])[^/]*/?[^/]*$", re.IGNORECASE)
"""A folder `masks` anywhere, or the word in the name of the file or of its own folder."""
_BELOW: Final = re.compile(r"(?:^|[-_. /])masks?(?=[-_. /\d])", re.IGNORECASE)
"""The word in the name of the file or of any folder: flat pictures below `mask-anno` are masks, others photos."""
_HINTS: Final = r"holes?|mattes?|alphas?|trimaps?|gt|labels?|segmentations?"
"""Words that occur in names of other files, too."""
_AFTER: Final = re.compile(rf"(.+?)[-_. ](?:masks?|m|{_HINTS})[-_. ]?\d*", re.IGNORECASE)
_BEFORE: Final = re.compile(rf"(?:masks?|{_HINTS})[-_. ](.+)", re.IGNORECASE)
_FOLDER: Final = re.compile(rf"masks?|{_HINTS}|annotations?|SegmentationClass|SegmentationObject", re.IGNORECASE)
_PICTURES: Final = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_PHOTO_FOLDERS: Final = ("images", "image", "imgs", "img", "photos", "photo", "input", "original", "rgb", "JPEGImages")
"""Names of folders of photos beside a folder `masks`."""
_REASON: Final = "a mask"
_MAX_COLORS: Final = 64
_MAX_GRAYS: Final = 16
_SAMPLE_PIXELS: Final = 50_000
_LEVEL_TOLERANCE: Final = 32
_LEVEL_SHARE: Final = 0.9
"""Share of pixels near the darkest or the lightest level: a JPEG of two levels has others around edges."""
_CORE_TOLERANCE: Final = 4
_CORE_SHARE: Final = 0.75
"""Share of pixels at nearly one of two levels: 0.87 and more in JPEGs of masks, 0.6 and less in 560 photos."""
_CORE_SHARE_OF_HALF: Final = 0.25
"""The same share among the dark and among the light pixels: stars of a night sky have all levels."""
_SATURATION: Final = 24
_COLORED_SHARE: Final = 0.1
_MIN_TONES: Final = 64
_TONES_SHARE: Final = 0.9
"""A photo has at least 64 tones (32 levels a channel) in 0.9 of its pixels, and some that are not gray."""


def is_mask_name(path: str) -> bool:
    """Whether a folder or the name of the file has the word mask."""
    return _NAME.search(path) is not None


def is_possible_mask_name(path: str) -> bool:
    """Whether a folder or the name of the file has a word that masks of a photo may have."""
    return has_picture_name(path) and next(photo_stems(path), None) is not None


def has_picture_name(path: str) -> bool:
    """Whether the file has a suffix of pictures."""
    return path.lower().endswith(_PICTURES)


def strip_suffix(path: str) -> str:
    """The path without its suffix."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def photo_folders(folder: str) -> Iterator[tuple[str, str]]:
    """Yield folders in which the photos of this folder's masks may lie, each after its parent beside `masks`.

    For `a/masks/b`: (`a`, `a/b`), (`a/images`, `a/images/b`) and others.
    A folder such as `train_masks` has none: it may be a class of photos, as `ski_mask` beside `ski` is.
    """
    parts = folder.split("/")
    for number in (number for number, part in enumerate(parts) if _FOLDER.fullmatch(part)):
        for name in ("", *(_match_case(parts[number], name) for name in _PHOTO_FOLDERS)):
            beside = [part for part in (*parts[:number], name) if part]
            yield "/".join(beside), "/".join((*beside, *parts[number + 1 :]))


def _match_case(folder: str, name: str) -> str:
    """The name in the case of the folder, lower, upper or capitalized; a name with capitals of its own stays."""
    if not name.islower() or not folder[0].isupper():
        return name
    return name.upper() if folder.isupper() else name.capitalize()


def photo_stems(path: str) -> Iterator[str]:
    """Yield paths, without suffix, at which the photo of this mask may lie."""
    folder, _, name = strip_suffix(path).rpartition("/")
    bases = [match[1] for pattern in (_AFTER, _BEFORE) if (match := pattern.fullmatch(name))]
    for base in bases:
        yield f"{folder}/{base}" if folder else base
    for _, other in photo_folders(folder):
        yield from (f"{other}/{base}" if other else base for base in (name, *bases))


def match_masks(masks: Iterable[str], photos: Iterable[str]) -> dict[str, str]:
    """Path of the photo by path of its mask, for masks with a photo; the first in order where there are several.

    `masks`: paths with a word of masks; `photos`: all other paths, which are not held.
    """
    wanted: dict[str, list[str]] = {}
    for mask in masks:
        for stem in photo_stems(mask):
            wanted.setdefault(stem, []).append(mask)
    found: dict[str, str] = {}
    for photo in filter(has_picture_name, photos) if wanted else ():
        for mask in wanted.get(strip_suffix(photo), ()):
            if photo != mask:
                found[mask] = min(photo, found.get(mask, photo))
    return found


def format_name_reason(photo: str) -> str:
    """Reason to reject a mask whose name is derived from that of this photo."""
    return f"{_REASON} of {photo} by its name"


def format_beside_reason(photo: str) -> str:
    """Reason to reject a mask that has the name of its photo but for the suffix."""
    return f"{_REASON} beside its photo {photo}"


def is_mask_reason(reason: str | None) -> bool:
    """Whether a stored reason is one of the three above."""
    return reason is not None and reason.startswith(f"{_REASON} ")


def find_mask_reason(raw: bytes, path: str, by_name: str | None, config: DatasetConfig) -> str | None:
    """Reason to reject a file as a mask, by its pixels, or None; only names with a word of masks cost a decode.

    `by_name`: reason of the listing, where the file is a mask by its name.
    """
    if config.masks_as_photos or not (by_name or _BELOW.search(path)):
        return None
    pixels = _read_pixels(raw, path, config)
    if pixels is not None and has_flat_colors(pixels):
        return by_name or f"{_REASON} by its name and its flat colors"
    if by_name is None or not is_mask_name(path):
        return None
    if pixels is not None and has_photo_colors(pixels):
        return f"in doubt: {by_name}, a photo by its colors (--masks-as-photos takes it)"
    return by_name


def has_mask_colors(raw: bytes, path: str, config: DatasetConfig) -> bool:
    """Whether the file has the colors of a mask, and the config rejects masks."""
    pixels = None if config.masks_as_photos else _read_pixels(raw, path, config)
    return pixels is not None and has_flat_colors(pixels)


def _read_pixels(raw: bytes, path: str, config: DatasetConfig) -> NDArray[np.uint8] | None:
    with name_memory_faults(path):
        return read_upright_pixels(raw, config)


def has_flat_colors(pixels: NDArray[np.uint8]) -> bool:
    """Whether uint8 pixels, HxW or HxWx3, are those of a mask: few colors, or nearly two levels of gray."""
    flat = pixels.reshape(-1, 1 if pixels.ndim == 2 else 3)
    some = flat[:: max(1, len(flat) // _SAMPLE_PIXELS)]
    return (_has_few_colors(some) and _has_few_colors(flat)) or _has_two_levels(some)


def _has_few_colors(pixels: NDArray[np.uint8]) -> bool:
    """Whether pixels, NxC, have at most 64 colors, or 16 if they are gray: a dull gray photo has some 50."""
    colors = np.unique(pixels @ np.array([1, 256, 65536][: pixels.shape[1]], np.int64))
    is_gray = pixels.shape[1] == 1 or not (colors % 0x010101).any()
    return len(colors) <= (_MAX_GRAYS if is_gray else _MAX_COLORS)


def _has_two_levels(pixels: NDArray[np.uint8]) -> bool:
    """Whether nearly all pixels, NxC, are gray and near the darkest or the lightest of them, and most on two levels.

    Snow, a night sky and a pale thing on white are near the darkest and the lightest, too, but spread.
    """
    # Refuse pixels between the extremes.
    gray = pixels[:, 0]
    low, high = int(gray.min()), int(gray.max())
    near = (gray <= low + _LEVEL_TOLERANCE) | (gray >= high - _LEVEL_TOLERANCE)
    near &= np.ptp(pixels, axis=1) <= _LEVEL_TOLERANCE
    if high - low <= 4 * _LEVEL_TOLERANCE or near.mean() < _LEVEL_SHARE:
        return False
    # Count the pixels around the peak of each half.
    counts, middle = np.bincount(gray, minlength=256), (low + high) // 2
    core = 0
    for half in (counts[: middle + 1], counts[middle + 1 :]):
        level = int(half.argmax())
        same = int(half[max(0, level - _CORE_TOLERANCE) : level + _CORE_TOLERANCE + 1].sum())
        if same < _CORE_SHARE_OF_HALF * half.sum():
            return False
        core += same
    return core >= _CORE_SHARE * len(gray)


def has_photo_colors(pixels: NDArray[np.uint8]) -> bool:
    """Whether uint8 pixels, HxW or HxWx3, have many tones and some color: a map in colors has few tones."""
    if pixels.ndim == 2:
        return False
    flat = pixels.reshape(-1, 3)
    some = flat[:: max(1, len(flat) // _SAMPLE_PIXELS)]
    tones = np.sort(np.unique((some >> 3) @ np.array([1, 32, 1024], np.int64), return_counts=True)[1])[::-1]
    num_tones = 1 + int(np.searchsorted(tones.cumsum(), _TONES_SHARE * len(some)))
    return num_tones >= _MIN_TONES and bool((np.ptp(some, axis=1) > _SATURATION).mean() >= _COLORED_SHARE)
