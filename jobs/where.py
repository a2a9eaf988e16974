"""`lacuna where`: what became of a photo, and in which shard it lies if it lies in one."""

import json
from dataclasses import dataclass
from typing import Any

import tyro

from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.progress import say
from pipelines.data.dataset.edit import find_photo


@dataclass(frozen=True)
class Arguments:
    """Find a photo by its key; exit 1 where the dataset does not know it."""

    key: tyro.conf.Positional[str]
    """The key, as in the shards' member names."""
    data: str
    """URI of the dataset."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Looks the key up in the tables that can hold it."""
    places = find_photo(arguments.data, arguments.key)
    report = {"key": arguments.key, "data": arguments.data, "places": places}
    if not places:
        raise VerbError(f"no photo {arguments.key!r} in {arguments.data}: keys are paths without their suffix", report)
    for place in places:
        say(json.dumps({name: place[name] for name in ("outcome", "reason", "shard", "layer", "source")}))
    return report


if __name__ == "__main__":
    run_as_module("where")
