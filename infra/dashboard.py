"""The HTTP door of a Ray cluster: which addresses a token may go to, and a client that goes nowhere else.

In: an address. Out: Ray's client of jobs, whose faults are either passing (AwayError) or final. A file of its own
because it imports Ray, which takes seconds.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from infra.addresses import is_this_machine

_SECONDS_TO_CONNECT: Final = 10.0
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_NAMED_ELSEWHERE: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

for _name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they tell of every upload and of every stream's end


class AwayError(ConnectionError):
    """The cluster does not answer now, or not well; it may do so again."""


class Dashboard(JobSubmissionClient):
    """Ray's client of jobs, for one address and no other.

    Ray's own prefers RAY_ADDRESS to the address it is given, follows redirects with what it sends, takes a login from
    ~/.netrc over the token, sends what is for this machine through a proxy, and waits for ever.
    """

    seconds_to_answer = 60.0
    """Rather many: a busy head answers late."""

    def __init__(self, address: str) -> None:
        host = urlsplit(address).hostname or ""
        self._proxies = {"no_proxy": host} if is_this_machine(host) else None
        with _only_named_here():
            super().__init__(address, verify=os.environ.get("SSL_CERT_FILE") or True)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        try:
            answer = super()._do_request(
                method,
                endpoint,
                **options,
                allow_redirects=False,
                auth=lambda request: request,
                proxies=self._proxies,
                timeout=(min(_SECONDS_TO_CONNECT, self.seconds_to_answer), self.seconds_to_answer),
            )
        except AuthenticationError as fault:
            raise ConnectionError(" ".join(str(fault).split())) from None
        except requests.RequestException as fault:
            raise AwayError(_reason(fault)) from None
        if 300 <= answer.status_code < 400:
            raise ConnectionError("it sends us to another address: give that one if you trust it")
        return answer

    def _raise_error(self, answer: Any) -> NoReturn:
        last_line = (answer.text.strip().split("\n") or [""])[-1][:300]
        if answer.status_code == 404:
            raise FileNotFoundError(last_line)
        kind = AwayError if answer.status_code in _PASSING else ConnectionError
        raise kind(f"status {answer.status_code}: {last_line}")


def _reason(fault: requests.RequestException) -> str:
    """The innermost words of a fault: those around it tell objects of Python."""
    inner = fault.args[0] if fault.args else fault
    reason = getattr(inner, "reason", None) or inner
    if "WRONG_VERSION_NUMBER" in str(reason):
        return "it answers in clear http: give http:// if it is a tunnel on this machine"
    return str(reason).rpartition(">: ")[2].rpartition("): ")[2][:300] or type(fault).__name__


@contextmanager
def _only_named_here() -> Iterator[None]:
    """Hide the variables by which Ray would take another address than the one that was checked."""
    hidden = {name: os.environ.pop(name) for name in _NAMED_ELSEWHERE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
