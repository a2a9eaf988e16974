"""Which pictures are no photos but masks of one: `x_mask000.png` beside `x.png`, `masks/x.png` beside `images/x.jpg`.

In: names, and pixels where a name alone does not decide. Out: where the photo of a mask would lie, and the reasons for
which a mask is no photo. A file of its own because listing, scan and the settling of keys decide by the same words: a
name that says mask and a photo of that name are enough; without such a photo, or without such a name, a picture is a
mask only if it has the flat colors of one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.cleaning import memory_for, upright_pixels
from pipelines.data.recipe import ShardRecipe

_NAME: Final = re.compile(r"(?:^|/)masks?/|(?:^|[-_. /])masks?(?=$|[-_. /\d])[^/]*/?[^/]*$", re.IGNORECASE)
"""A folder `masks` anywhere, or the word in the name of the file or of its own folder."""
_AFTER: Final = re.compile(r"(.+?)[-_. ]masks?[-_. ]?\d*", re.IGNORECASE)
_BEFORE: Final = re.compile(r"masks?[-_. ](.+)", re.IGNORECASE)
_FOLDER: Final = re.compile(r"masks?", re.IGNORECASE)
_PHOTO_FOLDERS: Final = ("images", "image", "imgs", "img", "photos", "photo", "input", "JPEGImages")
"""Names of folders of photos beside a folder `masks`."""
_REASON: Final = "a mask"
_MAX_COLORS: Final = 64
_MAX_GRAYS: Final = 16
_SAMPLE_PIXELS: Final = 50_000
_LEVEL_TOLERANCE: Final = 32
_LEVEL_SHARE: Final = 0.9
"""A JPEG of two gray levels has others around edges: so many of its pixels lie near the darkest or the lightest."""


def names_mask(path: str) -> bool:
    """Whether a folder or the name of the file says that it is a mask."""
    return _NAME.search(path) is not None


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
        names = (name.capitalize() if parts[number][0].isupper() else name for name in _PHOTO_FOLDERS)
        for name in ("", *names):
            beside = [part for part in (*parts[:number], name) if part]
            yield "/".join(beside), "/".join((*beside, *parts[number + 1 :]))


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

    `masks` are paths of names that say mask, `photos` those of all other files; the latter are not held.
    """
    wanted: dict[str, list[str]] = {}
    for mask in masks:
        for stem in photo_stems(mask):
            wanted.setdefault(stem, []).append(mask)
    found: dict[str, str] = {}
    for photo in photos if wanted else ():
        for mask in wanted.get(stem_of(photo), ()):
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


def looks_like_mask(raw: bytes, path: str, recipe: ShardRecipe) -> bool:
    """Whether the file of this path has the colors of a mask, and masks are no photos to the recipe."""
    if recipe.masks_as_photos:
        return False
    with memory_for(path):
        pixels = upright_pixels(raw, recipe)
        return pixels is not None and has_flat_colors(pixels)


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
    """Whether nearly all pixels, NxC, are gray and near the darkest or the lightest of them."""
    gray = pixels[:, 0]
    low, high = int(gray.min()), int(gray.max())
    near = (gray <= low + _LEVEL_TOLERANCE) | (gray >= high - _LEVEL_TOLERANCE)
    near &= np.ptp(pixels, axis=1) <= _LEVEL_TOLERANCE
    return high - low > 4 * _LEVEL_TOLERANCE and bool(near.mean() >= _LEVEL_SHARE)
