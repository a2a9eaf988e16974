"""The points of a run's curves, as its commits have left them on disk, and their bytes.

Points choose the best checkpoint and the end of a training that stops early, so each file of them is sealed.
"""

from collections.abc import Sequence
from typing import Any

from infra import storage
from pipelines.checkpoints import find_newest_clock
from pipelines.manifest import seal, unseal
from pipelines.records import CorruptDataError


def read_points(out: str, after: int = 0, until: int | None = None) -> list[dict[str, Any]]:
    """The points of a run behind this clock, up to another or to its newest checkpoint, in order.

    Raises CorruptDataError naming a file that does not hold points.
    """
    newest, last, points = find_newest_clock(out) if until is None else until, after, []
    if not newest:
        return []
    for name in sorted(name for name, _ in storage.list_files(storage.join(out, "metrics"))):
        if after < int(name.removesuffix(".json")) <= newest:
            found = _points(storage.join(out, "metrics", name))
            points += [point for point in found if point["images_seen"] > last]
            last = points[-1]["images_seen"]
    return points


def format_points(points: Sequence[dict[str, Any]]) -> bytes:
    """The sealed file of the points that lead up to one checkpoint."""
    return seal({"points": list(points)})


def _points(uri: str) -> list[dict[str, Any]]:
    data = storage.read_bytes(uri)
    try:
        return list(unseal(data, uri)["points"])
    except (KeyError, CorruptDataError):
        raise CorruptDataError(f"{uri} is no list of points: restore it, or remove it and lose those points") from None
