"""List of a run's committed checkpoints: `checkpoints.json`, beside the folder that holds them.

It separates a damaged committed checkpoint from one whose writer was killed. It is sealed like a commit record and
written after the `state.json` of a checkpoint, so a run with checkpoints and without a list has lost it.
"""

from collections.abc import Iterable
from typing import Final

from infra import storage
from pipelines.checked_files import seal, unseal
from pipelines.records import CorruptDataError

LIST_FILE: Final = "checkpoints.json"


def read_commit_list(out: str) -> tuple[int, ...] | None:
    """Clocks in images seen of the committed checkpoints, oldest first; None where the run has no list.

    Raises CorruptDataError where the list is not as it was sealed.
    """
    uri = storage.join(out, LIST_FILE)
    try:
        data = storage.read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None
    committed = unseal(data, uri).get("committed")
    if committed is None:
        raise CorruptDataError(f"{uri} is not a list of commits: restore it")
    return tuple(committed)


def publish_commit_list(out: str, clocks: Iterable[int]) -> None:
    """Replace the list of a run, whole and at once."""
    storage.publish(storage.join(out, LIST_FILE), seal({"committed": sorted(set(clocks))}))
