"""`lacuna submit` against a real Ray head: the verb runs there, its report and its exit code come back, once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT
from pipelines.checkpoints import open_checkpoint
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import open_dataset
from tests.making import lacuna, shard_recipe
from tests.planted import Cluster, data_of, secrets_in
from tests.s3 import free_ports

pytestmark = pytest.mark.slow


def test_a_verb_runs_as_a_job_and_its_report_comes_back(done: Any) -> None:
    words, (code, report, stderr) = done
    assert code == 0, stderr[-2000:]
    assert (report["verb"], report["status"], report["exit_code"]) == ("submit", "SUCCEEDED", 0)
    assert report["job_id"].startswith("lacuna-")
    verb = report["report"]
    assert (verb["verb"], verb["dataset"], verb["num_inputs"], verb["num_written"]) == ("shard", data_of(words), 60, 60)
    assert verb["manifest_sha256"] == open_dataset(data_of(words)).manifest_sha256


def test_the_log_of_the_job_is_shown_while_it_runs(done: Any) -> None:
    _, (_, report, stderr) = done
    assert f"job {report['job_id']} at http://127.0.0.1:" in stderr
    assert "sharding" in stderr
    assert stderr.count(f'"manifest_sha256": "{report["report"]["manifest_sha256"]}"') == 1


def test_a_job_writes_what_the_command_writes_here(done: Any, photos: Path, tmp_path: Path, ray_cluster: None) -> None:
    here = build_dataset(Plan(str(photos), str(tmp_path / "data"), shard_recipe(), seed=0), lambda *_: None)
    assert open_dataset(data_of(done[0])).manifest_sha256 == here.manifest_sha256
    assert verify_dataset(data_of(done[0]))[1] == []


def test_the_job_worked_on_the_cluster_and_not_beside_it(cluster: Cluster, done: Any) -> None:
    (job,) = [j for j in cluster.head.get("/api/jobs/") if j["submission_id"] == done[1][1]["job_id"]]
    assert job["driver_info"], "the verb has connected to no cluster, or to one of its own"
    assert job["entrypoint"].startswith("python -m jobs.shard ")
    assert job["metadata"]["lacuna.code"].startswith("source:")


def test_the_same_submission_after_the_end_finds_all_done(cluster: Cluster, done: Any) -> None:
    words, (_, first, _) = done
    before = Path(data_of(words), "dataset.json").stat().st_mtime_ns
    code, again, _ = cluster.submit(*words)
    assert code == 0
    assert again["job_id"] == first["job_id"].removesuffix("-1") + "-2"
    assert again["report"]["manifest_sha256"] == first["report"]["manifest_sha256"]
    assert Path(data_of(words), "dataset.json").stat().st_mtime_ns == before


def test_a_training_without_a_tracking_server_is_refused(cluster: Cluster) -> None:
    code, report, _ = cluster.submit("train", "deepgin-demo", "--data", "/d", "--out", "/o", MLFLOW_TRACKING_URI="")
    assert code == 2
    assert "MLFLOW_TRACKING_URI is not set" in report["error"]


def test_a_verb_that_fails_gives_its_own_exit_code_and_words(cluster: Cluster, tmp_path: Path) -> None:
    words = ("shard", "--source", "folder", "--root", str(tmp_path / "none"), "--out", str(tmp_path / "data"))
    code, report, _ = cluster.submit(*words)
    assert (code, report["status"], report["exit_code"]) == (2, "FAILED", 2)
    assert report["report"]["error"].startswith(f"no folder or archive at {tmp_path / 'none'}")
    assert "no folder or archive at " in report["error"]
    assert report["error"].endswith("(correct the command before you run it again)")
    second = cluster.submit(*words)[1]
    assert second["job_id"] == report["job_id"][:-1] + "2"  # a job that failed is tried again


def test_a_fault_of_the_work_gives_exit_1(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(data_of(done[0]), tmp_path / "data")
    victim = next(copy.rglob("*.tar"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    code, report, _ = cluster.submit("verify", str(copy))
    assert (code, report["exit_code"]) == (1, 1)
    assert victim.name in report["report"]["damaged"][0]["file"]


def test_a_training_runs_as_a_job(cluster: Cluster, done: Any, tmp_path: Path) -> None:
    out, database = str(tmp_path / "run"), f"sqlite:///{tmp_path / 'mlflow.db'}"
    words = ("train", "deepgin-demo", "--data", data_of(done[0]), "--out", out, "--workers", "2", "--images", "8")
    code, report, stderr = cluster.submit(*words, MLFLOW_TRACKING_URI=database)
    assert code == 0, stderr[-2000:]
    assert report["report"]["images_seen"] == 8
    assert open_checkpoint(out).file_sha256("generator") == report["report"]["weights_sha256"]
    assert (tmp_path / "mlflow.db").exists()
    assert secrets_in(tmp_path) == []


@pytest.mark.parametrize("token", ["a" * 64, ""])
def test_a_wrong_or_missing_token_is_reported(cluster: Cluster, token: str) -> None:
    words = ("verify", "/data")
    code, report, _ = cluster.submit(*words, RAY_AUTH_TOKEN=token, RAY_AUTH_TOKEN_PATH="", HOME="/nonexistent")
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster accepts jobs at {cluster.address}: ")
    assert "RAY_AUTH_TOKEN" in report["error"]
    assert cluster.head.token not in report["error"]


def test_no_cluster_at_the_address_is_reported() -> None:
    (port,) = free_ports(1)
    code, report, _ = lacuna("submit", "--cluster", f"http://127.0.0.1:{port}", "verify", "/data", cwd=PROJECT_ROOT)
    assert code == 1
    assert report["error"].startswith(f"no Ray cluster accepts jobs at http://127.0.0.1:{port}: ")
    assert "Give the address of its dashboard" in report["error"]
