"""Identity of a run and the format of its records, for readers of checkpoints.

In: the `--out` of a training. Out: the id of its run.
"""

import json
from typing import Any, Final

from infra import storage
from pipelines.records import UsageError

RUN_FILE: Final = "run.json"
RUN_FORMAT: Final = 2
"""Format of `run.json` and `state.json`. Format 1 had other field names and no `format`."""
_LAST_COMMIT_OF_FORMAT_1: Final = "ad14a54"


def refuse_other_format(uri: str, record: dict[str, Any]) -> None:
    """Raise UsageError for a record of another format."""
    found = record.get("format", 1)
    if found != RUN_FORMAT:
        reader = f"commit {_LAST_COMMIT_OF_FORMAT_1}" if found == 1 else "the version that wrote it"
        raise UsageError(
            f"{uri} has format {found}, this version of Lacuna reads {RUN_FORMAT}: use {reader}, or train again"
        )


def read_run_id(out: str) -> str | None:
    """Id of the run at `out`; None where no training began or its record is unreadable, which a training reports."""
    uri = storage.join(out, RUN_FILE)
    if not storage.exists(uri):
        return None
    try:
        return str(json.loads(storage.read_bytes(uri))["run_id"])
    except (ValueError, KeyError, TypeError):
        return None
