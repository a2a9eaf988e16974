"""A proxy before an object store that makes it fail, as stores do: by plan, and with an account of every request.

In: the endpoint of a real store, and which requests are to fail and how. Out: an endpoint that behaves so. Signatures
cover the host that the client named, so requests go on with their headers as they came.
"""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

HOST: Final = "127.0.0.1"
FAULTS: Final = ("500", "503", "404", "reset", "cut", "delay")
_DELAY_SECONDS: Final = 0.3
_ANSWERS: Final = {
    "500": (500, "Internal Server Error", "InternalError"),
    "503": (503, "Service Unavailable", "SlowDown"),
    "404": (404, "Not Found", "NoSuchKey"),
}


@dataclass(frozen=True)
class Request:
    """A request as the store would have seen it."""

    method: str
    path: str
    stretch: str
    """Its Range header, empty if it had none."""


Plan = Callable[[Request, int], str]
"""What a request meets when so many equal ones came before it: one of FAULTS, or nothing."""


@dataclass
class Account:
    """What was asked of the store, and what came of it."""

    requests: list[tuple[Request, str]] = field(default_factory=list)
    """With the fault that each met, "" for none."""

    def list_answered(self) -> list[Request]:
        """The requests that went through."""
        return [request for request, fault in self.requests if fault in ("", "delay")]

    def list_failed(self) -> list[Request]:
        """The requests that did not."""
        return [request for request, fault in self.requests if fault not in ("", "delay")]


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, store: str, plan: Plan) -> None:
        super().__init__((HOST, 0), _Handler)
        self.store, self.plan, self.account = urlsplit(store).netloc, plan, Account()
        self._lock = threading.Lock()

    def fault(self, request: Request) -> str:
        """What becomes of the request, noted."""
        with self._lock:
            before = sum(request == other for other, _ in self.account.requests)
            fault = self.plan(request, before)
            self.account.requests.append((request, fault))
        return fault

    def handle_error(self, *_: object) -> None:
        """A client that went away, killed or out of patience, is no fault of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, unquote(urlsplit(self.path).path), self.headers.get("Range", ""))
        fault = self.server.fault(request)
        if fault == "reset":
            self._reset()
        elif fault in _ANSWERS:
            self._answer(*_ANSWERS[fault])
        else:
            time.sleep(_DELAY_SECONDS if fault == "delay" else 0)
            self._forward(body, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - names of the base class

    def _forward(self, body: bytes, cut: bool) -> None:
        """Asks the store and passes its answer on, of a cut one the first half."""
        upstream = http.client.HTTPConnection(self.server.store, timeout=60)
        with contextlib.closing(upstream):
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        self.send_response_only(answer.status, answer.reason)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(data))
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._reset()

    def _answer(self, status: int, reason: str, code: str) -> None:
        data = f"<Error><Code>{code}</Code><Message>by plan</Message></Error>".encode()
        self.send_response_only(status, reason)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _reset(self) -> None:
        """Ends the connection without a farewell."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """The account is enough."""


@contextmanager
def failing_store(store: str, plan: Plan) -> Iterator[tuple[str, Account]]:
    """The endpoint of a store that fails by plan, and the account of its requests, for the time of the block."""
    proxy = _Proxy(store, plan)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{proxy.server_port}", proxy.account
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
