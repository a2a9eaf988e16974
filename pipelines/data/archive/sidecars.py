"""Planes of a photo by file name: `x_seg.png` and `x_edge.png` beside `x.jpg` are maps of it and no photos.

In: files that may lie beside each other. Out: the photos with their planes; maps without a photo and masks are refused.
All sources share these names, so that none of them takes a map or a mask for a photo.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from pipelines.data.image.mask_files import (
    format_name_reason,
    is_mask_name,
    is_possible_mask_name,
    match_masks,
    strip_suffix,
)
from pipelines.records import Found, Plane

PLANES: Final = ("seg", "edge")
"""Segmentation, edges."""
_ENDS: Final = tuple(f"_{name}.png" for name in PLANES)


def is_map(path: str) -> bool:
    """Whether the name is that of a map."""
    return path.endswith(_ENDS)


def is_sidecar(path: str) -> bool:
    """Whether the name is, or may be, that of a map or of a mask."""
    return is_map(path) or is_mask_name(path) or is_possible_mask_name(path)


def is_possible_photo(path: str) -> bool:
    """Whether the name is neither that of a map nor that of a mask."""
    return not is_map(path) and not is_mask_name(path)


def pair_planes(
    files: Callable[[], Iterable[Found]], sidecars: Iterable[Found], elsewhere: Iterable[str] = ()
) -> Iterator[tuple[Found, tuple[Plane, ...]]]:
    """Yield the photos with the maps of their name and, refused, the masks of photos; then, refused, stray maps.

    `sidecars`: those among the files; they alone are held, for a map or mask may come long after its photo.
    `elsewhere`: paths of further photos. A mask without a photo stays, until the scan looks at its pixels.
    """
    # Hold the maps by the stem of their photo.
    beside: dict[str, dict[str, Found]] = defaultdict(dict)
    masks = []
    for found in sidecars:
        if is_map(found.path):
            stem, _, name = found.path.removesuffix(".png").rpartition("_")
            beside[stem][name] = found
        else:
            masks.append(found.path)
    # Match masks with photos, then stream the files with what lies beside them.
    photos = (found.path for found in files() if is_possible_photo(found.path))
    photo_of = match_masks(masks, chain(photos, elsewhere))
    orphans = dict(beside)
    for found in (found for found in files() if not is_map(found.path)):
        if (photo := photo_of.get(found.path)) is not None:
            yield replace(found, refusal=found.refusal or format_name_reason(photo)), ()
            continue
        maps = beside.get(strip_suffix(found.path), {}) if beside else {}
        if maps:
            orphans.pop(strip_suffix(found.path), None)
        planes = (Plane(name, own.path, own.size_bytes, own.place, own.refusal) for name, own in sorted(maps.items()))
        yield found, tuple(planes)
    for own in (own for maps_of_one in orphans.values() for own in maps_of_one.values()):
        yield replace(own, place=None, refusal=own.refusal or "a map without its photo"), ()
