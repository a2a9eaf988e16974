"""`lacuna submit` against a real Ray head: the verb runs there, its report and its exit code come back, once."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from infra.settings import PROJECT_ROOT
from pipelines.checkpoints import open_checkpoint
from pipelines.data.build import build_dataset
from pipelines.data.verify import verify_dataset
from pipelines.data.workspace import Plan
from pipelines.manifest import open_dataset
from tests.making import lacuna, shard_recipe

pytestmark = pytest.mark.slow

SECONDS_TO_START = 60.0
SHARD = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "10000")
MASKS = ("--mask-size-px", "32", "--mask-canvas-px", "64")


@dataclass(frozen=True)
class Head:
    """A Ray head of this test, with its own ports, token and folder."""

    address: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """What a user of the cluster has in the environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_ADDRESS": ""}

    def submit(self, *words: str, **environment: str) -> tuple[int, dict[str, Any], str]:
        """`lacuna submit --cluster ...`."""
        return lacuna("submit", "--cluster", self.address, *words, cwd=PROJECT_ROOT, **self.environment | environment)

    def get(self, path: str) -> Any:
        """What the dashboard says."""
        request = Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head that this process has started; its own pid is signalled at the end and it takes its children along."""
    folder = tempfile.mkdtemp(prefix="lr", dir="/tmp")  # short: sockets lie in it
    options = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port",
               "dashboard-agent-grpc-port", "metrics-export-port")  # fmt: skip
    ports = dict(zip(options, free_ports(len(options)), strict=True))
    made = Head(f"http://127.0.0.1:{ports['dashboard-port']}", secrets.token_hex(32))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--dashboard-host", "127.0.0.1", "--num-cpus", "2", "--temp-dir", folder]
    command += ["--object-store-memory", str(100 << 20), *(f"--{name}={port}" for name, port in ports.items())]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | made.environment | {"PATH": path, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    with (Path(folder) / "head.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(made, process, Path(folder) / "head.log")
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_ready(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        try:
            head.get("/api/version")
            return
        except URLError:
            time.sleep(0.3)
    raise RuntimeError(f"the head does not answer: {log.read_text()[-2000:]}")


def shard_words(photos: Path, out: Path) -> tuple[str, ...]:
    return ("shard", *SHARD, *MASKS, "--root", str(photos), "--out", str(out))


@pytest.fixture(scope="module")
def done(
    head: Head, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], tuple[int, dict[str, Any], str]]:
    """A dataset built by a job: the words of its verb, and how the submission ended."""
    words = shard_words(photos, tmp_path_factory.mktemp("job") / "data")
    return words, head.submit(*words)


def data_of(words: tuple[str, ...]) -> str:
    return words[words.index("--out") + 1]


def test_a_verb_runs_as_a_job_and_its_report_comes_back(done: Any) -> None:
    words, (code, report, stderr) = done
    assert code == 0, stderr[-2000:]
    assert (report["verb"], report["status"], report["exit_code"]) == ("submit", "SUCCEEDED", 0)
    assert report["job_id"].startswith("lacuna-")
    verb = report["report"]
    assert (verb["verb"], verb["dataset"], verb["num_inputs"], verb["num_written"]) == ("shard", data_of(words), 60, 60)
    assert verb["manifest_sha256"] == open_dataset(data_of(words)).manifest_sha256


def test_the_log_of_the_job_is_told_while_it_runs(done: Any) -> None:
    _, (_, report, stderr) = done
    assert f"job {report['job_id']} at http://127.0.0.1:" in stderr
    assert "sharding" in stderr


def test_a_job_writes_what_the_command_writes_here(done: Any, photos: Path, tmp_path: Path, ray_cluster: None) -> None:
    here = build_dataset(Plan(str(photos), str(tmp_path / "data"), shard_recipe(), seed=0), lambda *_: None)
    assert open_dataset(data_of(done[0])).manifest_sha256 == here.manifest_sha256
    assert verify_dataset(data_of(done[0]))[1] == []


def test_the_job_worked_on_the_cluster_and_not_beside_it(head: Head, done: Any) -> None:
    (job,) = [j for j in head.get("/api/jobs/") if j["submission_id"] == done[1][1]["job_id"]]
    assert job["driver_info"], "the verb has connected to no cluster, or to one of its own"
    assert job["entrypoint"].startswith("python -m jobs.shard ")
    assert job["metadata"]["lacuna.code"].startswith("source:")


def test_the_same_submission_after_the_end_finds_all_done(head: Head, done: Any) -> None:
    words, (_, first, _) = done
    before = Path(data_of(words), "dataset.json").stat().st_mtime_ns
    code, again, _ = head.submit(*words)
    assert code == 0
    assert again["job_id"] == first["job_id"].removesuffix("-1") + "-2"
    assert again["report"]["manifest_sha256"] == first["report"]["manifest_sha256"]
    assert Path(data_of(words), "dataset.json").stat().st_mtime_ns == before


def test_the_same_submission_at_the_same_time_is_one_job(head: Head, photos: Path, tmp_path: Path) -> None:
    words = shard_words(photos, tmp_path / "data")
    with ThreadPoolExecutor(2) as both:
        first = both.submit(head.submit, *words)
        time.sleep(2.5)
        second = both.submit(head.submit, *words)
    assert first.result()[0] == second.result()[0] == 0
    assert first.result()[1]["job_id"] == second.result()[1]["job_id"]


def test_a_path_that_is_relative_is_refused(head: Head) -> None:
    code, report, _ = head.submit("shard", "--source", "packages", "--out", "data")
    assert code == 2
    assert "--out data is relative" in report["error"]


def test_a_training_without_a_tracking_server_is_refused(head: Head) -> None:
    code, report, _ = head.submit("train", "deepgin-demo", "--data", "/d", "--out", "/o", MLFLOW_TRACKING_URI="")
    assert code == 2
    assert "MLFLOW_TRACKING_URI is not set" in report["error"]


def test_a_verb_that_fails_gives_its_own_exit_code_and_words(head: Head, tmp_path: Path) -> None:
    code, report, _ = head.submit("shard", "--source", "imagenet", "--out", str(tmp_path / "data"))
    assert (code, report["status"], report["exit_code"]) == (2, "FAILED", 2)
    assert report["report"]["error"].startswith("unknown source 'imagenet'")
    assert "unknown source 'imagenet'" in report["error"]
    second = head.submit("shard", "--source", "imagenet", "--out", str(tmp_path / "data"))[1]
    assert second["job_id"] == report["job_id"][:-1] + "2"  # a job that failed is tried again


def test_a_fault_of_the_work_gives_exit_1(head: Head, done: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(data_of(done[0]), tmp_path / "data")
    victim = next(copy.rglob("*.tar"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    code, report, _ = head.submit("verify", str(copy))
    assert (code, report["exit_code"]) == (1, 1)
    assert victim.name in report["report"]["damaged"][0]["file"]


def test_a_training_runs_as_a_job(head: Head, done: Any, tmp_path: Path) -> None:
    out, database = str(tmp_path / "run"), f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ("train", "deepgin-demo", "--data", data_of(done[0]), "--out", out, "--workers", "2", "--images", "8")
    code, report, stderr = head.submit(*words, MLFLOW_TRACKING_URI=database)
    assert code == 0, stderr[-2000:]
    assert report["report"]["images_seen"] == 8
    assert open_checkpoint(out).file_sha256("generator") == report["report"]["weights_sha256"]
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("token", ["a" * 64, ""])
def test_a_wrong_or_missing_token_is_told(head: Head, token: str) -> None:
    code, report, _ = head.submit("verify", "data", RAY_AUTH_TOKEN=token, RAY_AUTH_TOKEN_PATH="", HOME="/nonexistent")
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster takes jobs at {head.address}: ")
    assert "RAY_AUTH_TOKEN" in report["error"]
    assert head.token not in report["error"]


def test_no_cluster_at_the_address_is_told() -> None:
    (port,) = free_ports(1)
    code, report, _ = lacuna("submit", "--cluster", f"http://127.0.0.1:{port}", "verify", "data", cwd=PROJECT_ROOT)
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster takes jobs at http://127.0.0.1:{port}: ")
    assert "give the address of its dashboard" in report["error"]
