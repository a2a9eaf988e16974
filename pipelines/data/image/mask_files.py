"""Which pictures are no photos but masks of one: `x_mask000.png` beside `x.png`, `masks/x.png` beside `images/x.jpg`.

In: names and pixels. Out: where the photo of a mask would lie, and the reasons for which a mask is no photo. A file of
its own because listing, scan and the settling of keys decide by the same words: a name that says mask and a photo of
that name are enough, unless the colors are those of a photo, too: a person with a mask. Without such a photo, or
where the name says less (`x_hole.png`, `x_m.png`), a picture is a mask only if it has the flat colors of one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import memory_for, upright_pixels

_NAME: Final = re.compile(r"(?:^|/)masks?/|(?:^|[-_. /])masks?(?=$|[-_. /\d])[^/]*/?[^/]*$", re.IGNORECASE)
"""A folder `masks` anywhere, or the word in the name of the file or of its own folder."""
_BELOW: Final = re.compile(r"(?:^|[-_. /])masks?(?=[-_. /\d])", re.IGNORECASE)
"""The word in the name of the file or of any folder: flat pictures below `mask-anno` are masks, others photos."""
_HINTS: Final = r"holes?|mattes?|alphas?|trimaps?|gt|labels?|segmentations?"
"""Words that other things than masks have in their names."""
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
"""A JPEG of two gray levels has others around edges: so many of its pixels lie near the darkest or the lightest."""
_CORE_TOLERANCE: Final = 4
_CORE_SHARE: Final = 0.75
"""So many have nearly one of two levels: 0.87 and more of JPEGs of masks, 0.6 and less of 560 photos."""
_CORE_SHARE_OF_HALF: Final = 0.25
"""So many of the dark and of the light ones: stars of a night sky have all levels."""
_SATURATION: Final = 24
_COLORED_SHARE: Final = 0.1
_MIN_TONES: Final = 64
_TONES_SHARE: Final = 0.9
"""A photo has so many tones (of 32 levels a channel) in so many of its pixels, and some that are not gray."""


def is_mask_name(path: str) -> bool:
    """Whether a folder or the name of the file says that it is a mask."""
    return _NAME.search(path) is not None


def hints_mask(path: str) -> bool:
    """Whether a folder or the name of the file may say that it is a mask of some photo."""
    return has_picture_name(path) and next(photo_stems(path), None) is not None


def has_picture_name(path: str) -> bool:
    """Whether the file is named as pictures are."""
    return path.lower().endswith(_PICTURES)


def stem_of(path: str) -> str:
    """The path without the suffix of its name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def photo_folders(folder: str) -> Iterator[tuple[str, str]]:
    """Folders in which the photos of the masks of this folder may lie, each with the one that stands for `masks` in it.

    For `a/masks/b`: (`a`, `a/b`), (`a/images`, `a/images/b`) and others.
    A folder such as `train_masks` has none: it may as well be a class of photos, `ski_mask` beside `ski`.
    """
    parts = folder.split("/")
    for number in (number for number, part in enumerate(parts) if _FOLDER.fullmatch(part)):
        for name in ("", *(_in_case_of(parts[number], name) for name in _PHOTO_FOLDERS)):
            beside = [part for part in (*parts[:number], name) if part]
            yield "/".join(beside), "/".join((*beside, *parts[number + 1 :]))


def _in_case_of(folder: str, name: str) -> str:
    """The name in lower, upper or capital letters as the folder is; one that has capitals of its own stays."""
    if not name.islower() or not folder[0].isupper():
        return name
    return name.upper() if folder.isupper() else name.capitalize()


def photo_stems(path: str) -> Iterator[str]:
    """Paths, without suffix, of the photos that a mask of this path may be of."""
    folder, _, name = stem_of(path).rpartition("/")
    bases = [match[1] for pattern in (_AFTER, _BEFORE) if (match := pattern.fullmatch(name))]
    for base in bases:
        yield f"{folder}/{base}" if folder else base
    for _, other in photo_folders(folder):
        yield from (f"{other}/{base}" if other else base for base in (name, *bases))


def masks_of_photos(masks: Iterable[str], photos: Iterable[str]) -> dict[str, str]:
    """From the path of each mask that has a photo to the path of that photo, the first in order of several.

    `masks` are paths of names that say or hint mask, `photos` those of all other files; the latter are not held.
    """
    wanted: dict[str, list[str]] = {}
    for mask in masks:
        for stem in photo_stems(mask):
            wanted.setdefault(stem, []).append(mask)
    found: dict[str, str] = {}
    for photo in filter(has_picture_name, photos) if wanted else ():
        for mask in wanted.get(stem_of(photo), ()):
            if photo != mask:
                found[mask] = min(photo, found.get(mask, photo))
    return found


def reason_by_name(photo: str) -> str:
    """Reason to reject a mask whose name says that it is one of this photo."""
    return f"{_REASON} of {photo} by its name"


def reason_by_content() -> str:
    """Reason to reject a picture that its name calls a mask and that looks like one."""
    return f"{_REASON} by its name and its flat colors"


def reason_beside(photo: str) -> str:
    """Reason to reject a mask that has the name of its photo but for the suffix."""
    return f"{_REASON} beside its photo {photo}"


def is_mask_reason(reason: str | None) -> bool:
    """Whether a stored reason is one of the three above."""
    return reason is not None and reason.startswith(f"{_REASON} ")


def reason_by_pixels(raw: bytes, path: str, by_name: str | None, recipe: DatasetConfig) -> str | None:
    """Reason for which a file is no photo after a look at its pixels, where its name asks for one.

    `by_name` is that of the listing: it is a mask of a photo if its name is right.
    """
    if recipe.masks_as_photos or not (by_name or _BELOW.search(path)):
        return None
    pixels = _pixels_of(raw, path, recipe)
    if pixels is not None and has_flat_colors(pixels):
        return by_name or reason_by_content()
    if by_name is None or not is_mask_name(path):
        return None
    return _in_doubt(by_name) if pixels is not None and has_photo_colors(pixels) else by_name


def _in_doubt(by_name: str) -> str:
    return f"in doubt: {by_name}, a photo by its colors (--masks-as-photos takes it)"


def looks_like_mask(raw: bytes, path: str, recipe: DatasetConfig) -> bool:
    """Whether the file of this path has the colors of a mask, and masks are no photos to the recipe."""
    pixels = None if recipe.masks_as_photos else _pixels_of(raw, path, recipe)
    return pixels is not None and has_flat_colors(pixels)


def _pixels_of(raw: bytes, path: str, recipe: DatasetConfig) -> NDArray[np.uint8] | None:
    with memory_for(path):
        return upright_pixels(raw, recipe)


def has_flat_colors(pixels: NDArray[np.uint8]) -> bool:
    """Whether uint8 pixels, HxW or HxWx3, are those of a mask: few colors, or nearly two levels of gray."""
    flat = pixels.reshape(-1, 1 if pixels.ndim == 2 else 3)
    some = flat[:: max(1, len(flat) // _SAMPLE_PIXELS)]
    return (_is_of_few_colors(some) and _is_of_few_colors(flat)) or _is_of_two_levels(some)


def _is_of_few_colors(pixels: NDArray[np.uint8]) -> bool:
    """Whether pixels, NxC, have at most 64 colors, or 16 if they are gray: a dull photo in gray has some 50."""
    colors = np.unique(pixels @ np.array([1, 256, 65536][: pixels.shape[1]], np.int64))
    is_gray = pixels.shape[1] == 1 or not (colors % 0x010101).any()
    return len(colors) <= (_MAX_GRAYS if is_gray else _MAX_COLORS)


def _is_of_two_levels(pixels: NDArray[np.uint8]) -> bool:
    """Whether nearly all pixels, NxC, are gray and near the darkest or the lightest of them, and most on two levels.

    Snow, a night sky and a pale thing on white are near the darkest and the lightest, too, but spread.
    """
    gray = pixels[:, 0]
    low, high = int(gray.min()), int(gray.max())
    near = (gray <= low + _LEVEL_TOLERANCE) | (gray >= high - _LEVEL_TOLERANCE)
    near &= np.ptp(pixels, axis=1) <= _LEVEL_TOLERANCE
    if high - low <= 4 * _LEVEL_TOLERANCE or near.mean() < _LEVEL_SHARE:
        return False
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
