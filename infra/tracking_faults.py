"""Faults of a tracking server in one line each: no login, out of reach, no MLflow server, a request that it refuses.

In: what MLflow, its HTTP client or its database raised. Out: LoginError or TrackingError. Imports none of these
libraries, so that a command knows the classes without waiting for MLflow.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from infra.credentials import HOW_TO_LOG_IN
from infra.settings import hide_credentials

_UNKNOWN_CALLER: Final = frozenset({401, "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED"})
_FORBIDDEN: Final = frozenset({403, "PERMISSION_DENIED"})
_OUTAGE: Final = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED"})
_NO_JSON: Final = "not in a valid JSON format"
_BODY: Final = re.compile(r"\.? Response (?:body|text): .*", re.DOTALL)
_NO_ANSWER: Final = re.compile(r"API request to \S+ failed with (?:timeout )?exception (.*)", re.DOTALL)
_LIBRARIES: Final = ("mlflow.", "requests.", "sqlalchemy.", "urllib3.")
_MAX_CHARACTERS: Final = 300


class LoginError(ValueError):
    """A tracking server that does not know who asks, or does not let this user do it: says what to set."""


class TrackingError(RuntimeError):
    """A tracking server that is out of reach, is none, or refuses a request; `code` is MLflow's word for it."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def explain_faults(uri: str) -> Iterator[None]:
    """Raise LoginError or TrackingError for a fault of MLflow's libraries inside the block; others pass."""
    try:
        yield
    except Exception as fault:
        if not type(fault).__module__.startswith(_LIBRARIES):
            raise
        raise explain(fault, uri) from None


class ExplainedCalls:
    """A client of MLflow, each of whose calls raises LoginError or TrackingError for a fault."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def explained(*args: Any, **kwargs: Any) -> Any:
            with explain_faults(self._uri):
                return call(*args, **kwargs)

        return explained


def explain(fault: Exception, uri: str) -> LoginError | TrackingError:
    """The fault in one line that names the server, without any password."""
    server, code = f"the tracking server at {hide_credentials(uri)}", _code(fault)
    if code in _UNKNOWN_CALLER:
        return LoginError(f"{server} does not take the login, or there is none: {HOW_TO_LOG_IN}")
    words = _one_line(str(fault))
    if code in _FORBIDDEN:
        return LoginError(f"{server} does not permit this to its user ({words}): for another user, {HOW_TO_LOG_IN}")
    if (unreachable := _NO_ANSWER.match(str(fault))) is not None:
        return TrackingError(f"{server} cannot be reached: {_one_line(unreachable[1])}", str(code))
    if _NO_JSON in str(fault) or (_BODY.search(str(fault)) and code not in _OUTAGE):
        return TrackingError(
            f"{server} does not answer as MLflow does ({words}): correct MLFLOW_TRACKING_URI", str(code)
        )
    return TrackingError(f"{server}: {words}", str(code))


def _code(fault: Exception) -> Any:
    """The HTTP status where the fault has one, else MLflow's name of the error."""
    status = getattr(getattr(fault, "response", None), "status_code", None)
    return status or getattr(fault, "error_code", "")


def _one_line(words: str) -> str:
    """The words without the page that a server sent, as one line of limited length."""
    line = " ".join(hide_credentials(_BODY.sub("", words)).split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"
