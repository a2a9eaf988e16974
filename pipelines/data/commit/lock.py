"""One change of a dataset at a time: who begins one writes down what it is to be, in the workspace of its commit.

In: the dataset that is to be changed and a line that says how. Out: a claim, or `UsageError` naming what is unfinished.
A folder's lock keeps two processes of one disk apart; on object stores only this does, and it tells `--prune` of shards
that no record names yet. A workspace belongs to one commit, so that who tidies up after a change cannot meet the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from infra import storage
from pipelines.data.commit.workspace import FIRST, FOLDER, run_once
from pipelines.manifest import Dataset, commit_id
from pipelines.records import UsageError

CLAIM: Final = "plan.json"


def get_base_name(dataset: Dataset | None) -> str:
    """The name of what a change of this dataset stands on."""
    return commit_id(dataset.commit)[:12] if dataset else FIRST


def locate_workspace(dataset: Dataset) -> str:
    """The URI of the workspace of a change of this dataset."""
    return storage.join(dataset.uri, FOLDER, get_base_name(dataset))


@contextmanager
def claim_change(dataset: Dataset, change: str) -> Iterator[None]:
    """Claims the dataset for a change that is cheap to begin anew: one that fails gives its claim up.

    Raises UsageError where another change is unfinished.
    """
    claim_workspace(locate_workspace(dataset), {"change": change})
    try:
        yield
    finally:
        remove_workspace(dataset.uri, get_base_name(dataset))


def claim_workspace(workspace: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Writes down what is done here; returns what was, before a kill. Raises UsageError where it is another change."""
    there = run_once(storage.join(workspace, CLAIM), lambda: asked)
    if there["change"] != asked["change"]:
        raise UsageError(
            f"unfinished change ({there['change']}) in {workspace}: wait for its end or run that command again, or "
            "delete that folder to give it up"
        )
    return there


def remove_workspace(uri: str, base: str) -> None:
    """Removes the workspace, the claim last: whoever finds it gone finds nothing that was done under it."""
    workspace = storage.join(uri, FOLDER, base)
    for name in _list_entries(workspace) - {CLAIM}:
        storage.remove(storage.join(workspace, name))
    storage.remove(workspace)
    storage.remove_empty(storage.join(uri, FOLDER))


def remove_stale_workspaces(uri: str, base: str) -> None:
    """Removes the workspaces of other commits than the present one: what stood on those can end no more."""
    for stale in _list_entries(storage.join(uri, FOLDER)) - {base}:
        remove_workspace(uri, stale)


def _list_entries(folder: str) -> set[str]:
    """The names in a folder under which there is a file; none where it is not there, or no longer."""
    try:
        return {name.partition("/")[0] for name, _ in storage.list_files(folder)}
    except FileNotFoundError:
        return set()
