"""Which pictures are no photos but maps of one: `x_seg.png` and `x_edge.png` beside `x.jpg` are planes of it.

In: files that may lie beside each other. Out: the photos with their planes. A file of its own because a source must not
take a map for a photo, and all sources that know maps tell them by the same names.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from pipelines.records import Found, Plane

PLANES: Final = ("seg", "edge")
"""Segmentation, edges."""
_MAP: Final = re.compile(rf"(.*[^/])_({'|'.join(PLANES)})\.png", re.DOTALL)


def paired(files: Callable[[], Iterable[Found]]) -> Iterator[tuple[Found, tuple[Plane, ...]]]:
    """The photos with the maps of their name, then, refused, the maps of no photo.

    The files are gone through twice, for a map may come long after its photo; only the maps are held.
    """
    maps: dict[str, dict[str, Found]] = defaultdict(dict)
    for found in files():
        if match := _MAP.fullmatch(found.path):
            maps[match[1]][match[2]] = found
    orphans = dict(maps)
    for found in files():
        if not maps or not _MAP.fullmatch(found.path):
            stem = _stem(found.path)
            orphans.pop(stem, None)
            yield found, tuple(_plane(name, own) for name, own in sorted(maps.get(stem, {}).items()))
    for own in (own for maps_of_one in orphans.values() for own in maps_of_one.values()):
        yield replace(own, place=None, refusal=own.refusal or "a map without its photo"), ()


def _stem(path: str) -> str:
    """The path without the suffix of its name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _plane(name: str, found: Found) -> Plane:
    return Plane(name, found.path, found.size_bytes, found.place, found.refusal)
