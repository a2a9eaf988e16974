"""A client of a Ray cluster's jobs that sends code and token to one address alone.

In: an address. Out: Ray's job client; its exceptions are either transient (AwayError) or final. The import takes
seconds, as it imports Ray.
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
_TRANSIENT: Final = (408, 425, 429, 500, 502, 503, 504)
_ADDRESS_VARIABLES: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

for _name in ("ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they log every upload and every stream's end


class AwayError(ConnectionError):
    """The cluster does not answer now, or with a server error; it may answer again."""


class Dashboard(JobSubmissionClient):
    """Ray's job client for one address only.

    Ray's own client prefers RAY_ADDRESS to its argument, follows redirects with its token, prefers a login in ~/.netrc
    to the token, uses a proxy even for this machine, and has no timeout.
    """

    seconds_to_answer = 60.0
    """Timeout of a request; long, as a busy head answers late."""

    def __init__(self, address: str) -> None:
        host = urlsplit(address).hostname or ""
        self._proxies = {"no_proxy": host} if is_this_machine(host) else None
        with _hide_address_variables():
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
            raise AwayError(_describe_failure(fault)) from None
        if 300 <= answer.status_code < 400:
            raise ConnectionError("it redirects to another address: give that one if you trust it")
        return answer

    def _raise_error(self, answer: Any) -> NoReturn:
        last_line = (answer.text.strip().split("\n") or [""])[-1][:300]
        if answer.status_code == 404:
            raise FileNotFoundError(last_line)
        kind = AwayError if answer.status_code in _TRANSIENT else ConnectionError
        raise kind(f"status {answer.status_code}: {last_line}")


def _describe_failure(fault: requests.RequestException) -> str:
    """Innermost message of an exception; the outer ones show Python objects."""
    inner = fault.args[0] if fault.args else fault
    reason = getattr(inner, "reason", None) or inner
    if "WRONG_VERSION_NUMBER" in str(reason):
        return "it answers in plain http: give http:// if it is a tunnel on this machine"
    return str(reason).rpartition(">: ")[2].rpartition("): ")[2][:300] or type(fault).__name__


@contextmanager
def _hide_address_variables() -> Iterator[None]:
    """Hide the variables that would make Ray use another address than the checked one."""
    hidden = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
