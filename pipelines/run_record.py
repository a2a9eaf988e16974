"""Who a run is, by the record beside its checkpoints.

In: the `--out` of a training. Out: the id of its run. A file of its own because readers of checkpoints ask, which know
nothing of trainings.
"""

import json
from typing import Final

from infra import storage

RUN_FILE: Final = "run.json"


def read_run_id(out: str) -> str | None:
    """The id of the run at `out`; None where no training began or its record cannot be read, as a training says."""
    uri = storage.join(out, RUN_FILE)
    if not storage.exists(uri):
        return None
    try:
        return str(json.loads(storage.read_bytes(uri))["run_id"])
    except (ValueError, KeyError, TypeError):
        return None
