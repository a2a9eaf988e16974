"""Expected exceptions, which a command reports by their messages, and those that mean bad usage."""

from collections.abc import Mapping
from typing import Any, Final

from infra.cluster import TaskLostError
from infra.credentials import SecretsError
from infra.lock import LockedError
from infra.tracking_faults import LoginError, TrackingError
from infra.uris import InvalidURIError
from pipelines.records import CorruptDataError, JobError, UsageError


class VerbError(RuntimeError):
    """A verb that ended without success; `report` holds its results."""

    def __init__(self, message: str, report: Mapping[str, Any], exit_code: int = 1) -> None:
        super().__init__(message)
        self.report, self.exit_code = dict(report), exit_code


BAD_USAGE: Final = (UsageError, LockedError, InvalidURIError, SecretsError, LoginError)
EXPECTED: Final = (
    *BAD_USAGE,
    TrackingError,
    CorruptDataError,
    JobError,
    VerbError,
    TaskLostError,
    OSError,
    MemoryError,
)


def refuse_empty(**options: str | None) -> None:
    """Raise UsageError for the first option whose value is empty, as an unset variable of a shell leaves it."""
    for name, value in options.items():
        if value is not None and not value.strip():
            raise UsageError(f"--{name} is empty: give it a value, or check the variable that it was taken from")
