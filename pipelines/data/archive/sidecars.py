"""Which pictures are no photos but maps of one: `x_seg.png` and `x_edge.png` beside `x.jpg` are planes of it.

In: files that may lie beside each other. Out: the photos with their planes, and maps and masks apart from them. A file
of its own because a source must not take a map or a mask for a photo, and all sources tell them by the same names.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from pipelines.data.image.mask_files import hints_mask, masks_of_photos, is_mask_name, reason_by_name, stem_of
from pipelines.records import Found, Plane

PLANES: Final = ("seg", "edge")
"""Segmentation, edges."""
_ENDS: Final = tuple(f"_{name}.png" for name in PLANES)


def is_map(path: str) -> bool:
    """Whether the name is that of a map."""
    return path.endswith(_ENDS)


def is_apart(path: str) -> bool:
    """Whether the name is, or may be, that of a map or of a mask."""
    return is_map(path) or is_mask_name(path) or hints_mask(path)


def may_have_masks(path: str) -> bool:
    """Whether the name is that of a photo, or may be."""
    return not is_map(path) and not is_mask_name(path)


def paired(
    files: Callable[[], Iterable[Found]], apart: Iterable[Found], elsewhere: Iterable[str] = ()
) -> Iterator[tuple[Found, tuple[Plane, ...]]]:
    """The photos with the maps of their name and, refused, the masks of photos; then, refused, the maps of no photo.

    `apart` are those of the files that `is_apart` names, which alone are held: a map or mask may come long after its
    photo. `elsewhere` are paths of further photos. A mask that has no photo is left to those who see its pixels.
    """
    beside: dict[str, dict[str, Found]] = defaultdict(dict)
    masks = []
    for found in apart:
        if is_map(found.path):
            stem, _, name = found.path.removesuffix(".png").rpartition("_")
            beside[stem][name] = found
        else:
            masks.append(found.path)
    photos = (found.path for found in files() if may_have_masks(found.path))
    photo_of = masks_of_photos(masks, chain(photos, elsewhere))
    orphans = dict(beside)
    for found in (found for found in files() if not is_map(found.path)):
        if (photo := photo_of.get(found.path)) is not None:
            yield replace(found, refusal=found.refusal or reason_by_name(photo)), ()
            continue
        maps = beside.get(stem_of(found.path), {}) if beside else {}
        if maps:
            orphans.pop(stem_of(found.path), None)
        yield found, tuple(_plane(name, own) for name, own in sorted(maps.items()))
    for own in (own for maps_of_one in orphans.values() for own in maps_of_one.values()):
        yield replace(own, place=None, refusal=own.refusal or "a map without its photo"), ()


def _plane(name: str, found: Found) -> Plane:
    return Plane(name, found.path, found.size_bytes, found.place, found.refusal)
