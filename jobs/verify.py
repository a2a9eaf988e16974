"""`lacuna verify`: every byte of a dataset against its records."""

from dataclasses import asdict, dataclass
from typing import Any

import tyro

from jobs.cli import as_module
from jobs.faults import NotDone
from pipelines.data.verify import verify_dataset


@dataclass(frozen=True)
class Arguments:
    """Check every byte of a dataset; exit 1 and a list of file and key where something is not as it was written."""

    uri: tyro.conf.Positional[str]
    """URI of the dataset."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Checks and reports."""
    dataset, damages = verify_dataset(arguments.uri)
    report: dict[str, Any] = {
        "num_shards": len(dataset.shards) if dataset else 0,
        "num_samples": sum(s.num_samples for s in dataset.shards) if dataset else 0,
        "damaged": [asdict(damage) for damage in damages],
    }
    if damages:
        first = damages[0]
        raise NotDone(f"{len(damages)} damages in {arguments.uri}, the first: {first.file}: {first.what}", report)
    return report


if __name__ == "__main__":
    as_module("verify")
