"""`lacuna where`: the outcome of a photo in a dataset, and the shard that holds it, if any."""

import json
from dataclasses import dataclass
from typing import Any

import tyro

from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import URI
from jobs.progress import say
from pipelines.data.dataset.edit import find_photo


@dataclass(frozen=True)
class Arguments:
    """Find a photo by its key, and print its outcome and its shard; exit 1 if the dataset does not know it."""

    key: tyro.conf.Positional[str]
    """The key: the photo's path under the root without its suffix, as in the shards' member names."""
    data: URI
    """URI of the dataset."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Look the key up in the tables that can hold it, and report."""
    places = find_photo(arguments.data, arguments.key)
    report = {"key": arguments.key, "data": arguments.data, "places": places}
    if not places:
        raise VerbError(
            f"no photo {arguments.key!r} in {arguments.data}: give its path under the root without suffix", report
        )
    for place in places:
        say(json.dumps({name: place[name] for name in ("outcome", "reason", "shard", "layer", "source")}))
    return report


if __name__ == "__main__":
    run_as_module("where")
