"""One change of a dataset at a time: who begins one writes down what it is to be, in the workspace of its commit.

In: the dataset that is to be changed and a line that says how. Out: a claim, or `UsageError` naming what is unfinished.
A folder's lock keeps two processes of one disk apart; on object stores only this does, and it tells `--prune` of shards
that no record names yet. A workspace belongs to one commit, so that who tidies up after a change cannot meet the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from infra import storage
from pipelines.data.commit.workspace import FIRST, FOLDER, once
from pipelines.manifest import Dataset, hash_commit
from pipelines.records import UsageError

CLAIM: Final = "plan.json"


def base_of(dataset: Dataset | None) -> str:
    """The name of what a change of this dataset stands on."""
    return hash_commit(dataset.commit)[:12] if dataset else FIRST


def workspace_of(dataset: Dataset) -> str:
    """The URI of the workspace of a change of this dataset."""
    return storage.join(dataset.uri, FOLDER, base_of(dataset))


@contextmanager
def change_of(dataset: Dataset, change: str) -> Iterator[None]:
    """Claims the dataset for a change that is cheap to begin anew: one that fails gives its claim up.

    Raises UsageError where another change is unfinished.
    """
    claim(workspace_of(dataset), {"change": change})
    try:
        yield
    finally:
        release(dataset.uri, base_of(dataset))


def claim(workspace: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Writes down what is done here; returns what was, before a kill. Raises UsageError where it is another change."""
    there = once(storage.join(workspace, CLAIM), lambda: asked)
    if there["change"] != asked["change"]:
        raise UsageError(
            f"unfinished change ({there['change']}) in {workspace}: wait for its end or run that command again, or "
            "delete that folder to give it up"
        )
    return there


def release(uri: str, base: str) -> None:
    """Removes the workspace, the claim last: whoever finds it gone finds nothing that was done under it."""
    workspace = storage.join(uri, FOLDER, base)
    for name in _entries(workspace) - {CLAIM}:
        storage.remove(storage.join(workspace, name))
    storage.remove(workspace)
    storage.remove_empty(storage.join(uri, FOLDER))


def clear_stale(uri: str, base: str) -> None:
    """Removes the workspaces of other commits than the present one: what stood on those can end no more."""
    for stale in _entries(storage.join(uri, FOLDER)) - {base}:
        release(uri, stale)


def _entries(folder: str) -> set[str]:
    """The names in a folder under which there is a file; none where it is not there, or no longer."""
    try:
        return {name.partition("/")[0] for name, _ in storage.list_files(folder)}
    except FileNotFoundError:
        return set()
