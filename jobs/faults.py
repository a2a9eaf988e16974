"""Which exceptions a command explains in their own words, and which of them other arguments would mend."""

from collections.abc import Mapping
from typing import Any, Final

from infra.cluster import TaskLostError
from infra.credentials import SecretsError
from infra.lock import LockedError
from infra.tracking_faults import LoginError, TrackingError
from infra.uris import InvalidURIError
from pipelines.records import CorruptDataError, JobError, UsageError


class VerbError(RuntimeError):
    """The verb came to an end without doing what it is for; `report` holds what it found."""

    def __init__(self, message: str, report: Mapping[str, Any], exit_code: int = 1) -> None:
        super().__init__(message)
        self.report, self.exit_code = dict(report), exit_code


BAD_USAGE: Final = (UsageError, LockedError, InvalidURIError, SecretsError, LoginError)
FORESEEN: Final = (
    *BAD_USAGE,
    TrackingError,
    CorruptDataError,
    JobError,
    VerbError,
    TaskLostError,
    OSError,
    MemoryError,
)
