"""Calls to services that fail for a while: tried again after growing waits, each failure told.

In: a call and where its failures are told. Out: its result, or its last fault. A file of its own because what is worth
another try is decided once for all stores.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final, TypeVar

from infra.object_store import may_pass

Result = TypeVar("Result")

WAITS_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""About 40 s in all, beside the tries that a store's own client makes."""


def retry_transient(call: Callable[[], Result], told: Callable[[str], None]) -> Result:
    """The result of the call, tried once more after each of WAITS_SECONDS; every failure but the last is `told`.

    A file that is not there is asked for again too: a store may know of it a moment later. Access denied is final.
    """
    for number, wait in enumerate(WAITS_SECONDS, 1):
        try:
            return call()
        except Exception as fault:
            if not (may_pass(fault) or isinstance(fault, FileNotFoundError)):
                raise
            told(f"try {number} of {len(WAITS_SECONDS) + 1} failed: {type(fault).__name__}: {fault}")
        time.sleep(wait * (1 + secrets.randbelow(500) / 1000))  # so that a thousand ranks do not come back together
    return call()
