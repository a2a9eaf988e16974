"""One change of a dataset at a time: each writes a claim into the workspace of the commit that it is based on.

In: the dataset to change and a line that describes the change. Out: a claim, or `UsageError` naming the unfinished
change. A folder lock excludes other processes on one disk; on object stores the claim alone does, and it keeps
`--prune` from shards that no record names yet. A workspace belongs to one commit, so that cleaning up after a change
cannot touch the next one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from infra import storage
from pipelines.data.commit.workspace import FIRST, FOLDER, run_once
from pipelines.manifest import Dataset, hash_commit
from pipelines.records import UsageError

CLAIM: Final = "plan.json"


def get_base_name(dataset: Dataset | None) -> str:
    """Name of the base of a change: the start of the commit's digest, `FIRST` without a dataset."""
    return hash_commit(dataset.commit)[:12] if dataset else FIRST


def locate_workspace(dataset: Dataset) -> str:
    """The URI of the workspace of a change of this dataset."""
    return storage.join(dataset.uri, FOLDER, get_base_name(dataset))


@contextmanager
def claim_change(dataset: Dataset, change: str) -> Iterator[None]:
    """Claim the dataset for a change that is cheap to repeat: a failed one gives up its claim.

    Raises UsageError where another change is unfinished.
    """
    claim_workspace(locate_workspace(dataset), {"change": change})
    try:
        yield
    finally:
        remove_workspace(dataset.uri, get_base_name(dataset))


def claim_workspace(workspace: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Write the claim of a change; returns the one that was there before a kill.

    Raises UsageError where that is of another change.
    """
    there, _ = run_once(storage.join(workspace, CLAIM), lambda: asked)
    if there["change"] != asked["change"]:
        raise UsageError(
            f"unfinished change ({there['change']}) in {workspace}: wait for its end or run that command again. To "
            "abandon it, delete that folder"
        )
    return there


def remove_workspace(uri: str, base: str) -> None:
    """Remove the workspace, the claim last: without a claim there must be no files of its change."""
    workspace = storage.join(uri, FOLDER, base)
    for name in _list_entries(workspace) - {CLAIM}:
        storage.remove(storage.join(workspace, name))
    storage.remove(workspace)
    storage.remove_empty(storage.join(uri, FOLDER))


def remove_stale_workspaces(uri: str, base: str) -> None:
    """Remove the workspaces of other commits than the present one: changes based on those can no longer finish."""
    for stale in _list_entries(storage.join(uri, FOLDER)) - {base}:
        remove_workspace(uri, stale)


def _list_entries(folder: str) -> set[str]:
    """Names in a folder under which there is a file; none where the folder is missing."""
    try:
        return {name.partition("/")[0] for name, _ in storage.list_files(folder)}
    except FileNotFoundError:
        return set()
