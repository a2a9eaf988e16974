"""The points of a run's curves, as its commits have left them on disk."""

import json
from typing import Any

from infra import storage
from pipelines.checkpoints import newest_clock


def committed_points(out: str, after: int = 0) -> list[dict[str, Any]]:
    """The points of a run behind this clock, up to its newest checkpoint, in order."""
    newest, last, points = newest_clock(out), after, []
    if not newest:
        return []
    for name in sorted(name for name, _ in storage.list_files(storage.join(out, "metrics"))):
        if after < int(name.removesuffix(".json")) <= newest:
            found = json.loads(storage.read_bytes(storage.join(out, "metrics", name)))
            points += [point for point in found if point["images_seen"] > last]
            last = points[-1]["images_seen"]
    return points
