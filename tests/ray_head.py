"""A real Ray head for tests, a process of its own on loopback with its own ports, token and folder."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.s3 import free_ports

RAY: Final = str(Path(sys.executable).with_name("ray"))
_SECONDS_TO_START: Final = 90.0
_PORTS: Final = (
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
)


@dataclass(frozen=True)
class Head:
    """A head that runs."""

    address: str
    token: str
    folder: Path
    """All that Ray writes: logs, and the code of jobs."""

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster has in the environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_ADDRESS": ""}

    def get(self, path: str) -> Any:
        """What the dashboard says."""
        request = Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())


@contextmanager
def ray_head(environment: Mapping[str, str]) -> Iterator[Head]:
    """A head for the time of the block; its own pid is signaled at the end and it takes its children along.

    Its token is this process's, if it has one: Ray reads that once.
    """
    folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))  # short: sockets lie in it
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
    made = Head(f"http://127.0.0.1:{ports['dashboard-port']}", token, folder)
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--dashboard-host", "127.0.0.1"]
    command += ["--num-cpus", "2", "--temp-dir", str(folder), "--object-store-memory", str(100 << 20)]
    command += [f"--{name}={port}" for name, port in ports.items()]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", **environment}
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | made.environment | settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_ready(made, process)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(head: Head, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        try:
            head.get("/api/version")
            return
        except URLError:
            time.sleep(0.3)
    raise RuntimeError(f"the head does not answer: {(head.folder / 'head.log').read_text()[-2000:]}")
