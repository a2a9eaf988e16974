"""`lacuna verify`: compare every byte of a dataset with its records."""

from dataclasses import asdict, dataclass
from typing import Any

import tyro

from infra.lock import lock_folder
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import URI
from jobs.progress import progress
from pipelines.data.commit.commit import list_unnamed_files
from pipelines.data.dataset.rebuild_manifest import recover_dataset
from pipelines.data.dataset.verify import count_checked_shards, verify_dataset
from pipelines.records import UsageError


@dataclass(frozen=True)
class Arguments:
    """Check every byte of a dataset; list damaged files and keys and exit with 1 if there are any."""

    uri: tyro.conf.Positional[URI]
    """Folder or URI of the dataset."""
    share: float = 1.0
    """Share of the shards to check, greater than 0 and at most 1."""
    seed: int = 0
    """Seed that selects those shards."""
    rebuild: bool = False
    """First rebuild a lost or damaged manifest from the shards."""


def check(arguments: Arguments) -> None:
    """Raise UsageError for an impossible share."""
    if not 0 < arguments.share <= 1:
        raise UsageError(f"--share is {arguments.share}: it must be greater than 0 and at most 1")


def run(arguments: Arguments) -> dict[str, Any]:
    """Check the dataset and report."""
    check(arguments)
    report: dict[str, Any] = {}
    if arguments.rebuild:
        with lock_folder(arguments.uri), progress() as show:
            recovered = recover_dataset(arguments.uri, show)
        report["num_tables_without_rejections"] = recovered.num_tables_without_rejections
    dataset, damages = verify_dataset(arguments.uri, arguments.share, arguments.seed)
    report |= {
        "num_shards": len(dataset.shards) if dataset else 0,
        "num_samples": sum(s.num_samples for s in dataset.shards) if dataset else 0,
        "num_shards_checked": count_checked_shards(len(dataset.shards), arguments.share) if dataset else 0,
        "damaged": [asdict(damage) for damage in damages],
        "unnamed": list_unnamed_files(dataset) if dataset else [],
    }
    if damages:
        first = damages[0]
        message = f"{len(damages)} damages in {arguments.uri}, the first: {first.file}: {first.what}"
        if any(not damage.file.endswith(".tar") for damage in damages):
            message += f"; `lacuna verify {arguments.uri} --rebuild` rebuilds records and tables"
        raise VerbError(message, report)
    return report


if __name__ == "__main__":
    run_as_module("verify")
