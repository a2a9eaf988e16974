"""A small web server on loopback that keeps what it is asked, for tests of what is sent to whom."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

VERSION: Final = b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "x"}'


class Listener(ThreadingHTTPServer):
    """Answers every request alike."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.asked = (status, body, dict(headers)), list[tuple[str, str, str | None]]()
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        status, body, headers = self.server.answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None:
        """Nothing: its log is no part of a test's."""


@contextmanager
def listening(status: int = 200, body: bytes = VERSION, **headers: str) -> Iterator[Listener]:
    """A server for the time of the block; `asked` holds method, path and login of every request."""
    with Listener(status, body, headers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
