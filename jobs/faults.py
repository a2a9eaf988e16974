"""Which exceptions a command explains in their own words, and which of them are the user's to mend by other arguments."""

from typing import Final

from pipelines.records import Damaged, Failed, Refused


class NotDone(RuntimeError):
    """The verb came to an end without doing what it is for; `report` holds what it found."""

    def __init__(self, message: str, report: dict[str, object], exit_code: int = 1) -> None:
        super().__init__(message)
        self.report, self.exit_code = report, exit_code


BAD_USAGE: Final = (Refused,)
FORESEEN: Final = (Refused, Damaged, Failed, NotDone, OSError)
