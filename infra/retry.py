"""Retries of calls to services that fail for a while, after growing waits.

In: a call, and a function that takes a line per failure. Out: its result, or its last exception.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final, TypeVar

from infra.object_store import is_transient

Result = TypeVar("Result")

WAITS_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""About 40 s in all, on top of the retries of a store's own client."""


def retry_transient(call: Callable[[], Result], report: Callable[[str], None]) -> Result:
    """Result of the call, tried again after each of WAITS_SECONDS; `report` gets every failure but the last.

    A missing file is requested again too: a store may list it a moment later. Access denied is final.
    """
    for number, wait in enumerate(WAITS_SECONDS, 1):
        try:
            return call()
        except Exception as fault:
            if not (is_transient(fault) or isinstance(fault, FileNotFoundError)):
                raise
            report(f"try {number} of {len(WAITS_SECONDS) + 1} failed: {type(fault).__name__}: {fault}")
        time.sleep(wait * (1 + secrets.randbelow(500) / 1000))  # so that a thousand ranks do not return at once
    return call()
