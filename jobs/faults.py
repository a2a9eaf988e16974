"""Which exceptions a command explains in their own words, and which of them other arguments would mend."""

from collections.abc import Mapping
from typing import Any, Final

from infra.cluster import TaskLostError
from infra.credentials import SecretsError
from infra.lock import Occupied
from infra.tracking_faults import LoginError, TrackingError
from infra.uris import NoPlace
from pipelines.records import Damaged, Failed, Refused


class NotDone(RuntimeError):
    """The verb came to an end without doing what it is for; `report` holds what it found."""

    def __init__(self, message: str, report: Mapping[str, Any], exit_code: int = 1) -> None:
        super().__init__(message)
        self.report, self.exit_code = dict(report), exit_code


BAD_USAGE: Final = (Refused, Occupied, NoPlace, SecretsError, LoginError)
FORESEEN: Final = (*BAD_USAGE, TrackingError, Damaged, Failed, NotDone, TaskLostError, OSError, MemoryError)
