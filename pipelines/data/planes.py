"""Which pictures are no photos but maps of one: `x_seg.png` and `x_edge.png` beside `x.jpg` are planes of it.

In: files that may lie beside each other. Out: the photos with their planes. A file of its own because a source must not
take a map for a photo, and all sources that know maps tell them by the same names.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from pipelines.records import Found, Plane

PLANES: Final = ("seg", "edge")
"""Segmentation, edges."""
_ENDS: Final = tuple(f"_{name}.png" for name in PLANES)


def is_map(path: str) -> bool:
    """Whether the name is that of a map."""
    return path.endswith(_ENDS)


def paired(files: Iterable[Found], maps: Iterable[Found]) -> Iterator[tuple[Found, tuple[Plane, ...]]]:
    """The photos among the files with the maps of their name, then, refused, the maps of no photo.

    `maps` are those among the files: a map may come long after its photo. They alone are held.
    """
    beside: dict[str, dict[str, Found]] = defaultdict(dict)
    for found in maps:
        stem, _, name = found.path.removesuffix(".png").rpartition("_")
        beside[stem][name] = found
    if not beside:
        yield from ((found, ()) for found in files)
        return
    orphans = dict(beside)
    for found in (found for found in files if not is_map(found.path)):
        stem = _stem(found.path)
        orphans.pop(stem, None)
        yield found, tuple(_plane(name, own) for name, own in sorted(beside.get(stem, {}).items()))
    for own in (own for maps_of_one in orphans.values() for own in maps_of_one.values()):
        yield replace(own, place=None, refusal=own.refusal or "a map without its photo"), ()


def _stem(path: str) -> str:
    """The path without the suffix of its name."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _plane(name: str, found: Found) -> Plane:
    return Plane(name, found.path, found.size_bytes, found.place, found.refusal)
