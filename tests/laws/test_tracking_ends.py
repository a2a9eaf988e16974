"""Law 9: MLflow says how a training really ended, however it did, and all its starts are one run there."""

from pathlib import Path

import pytest

from pipelines.checkpoints import find_newest_clock
from pipelines.manifest import Dataset
from tests.laws.ends import check_reported_once, read_tracked_run
from tests.laws.killing import Lacuna, children, end, kill_driver, trains, wait_until
from tests.laws.trainings import EXPLOSIVE, IMAGES, clock, finish_training, start_training

pytestmark = pytest.mark.slow


def ranks(process: Lacuna) -> list[int]:
    """The pids of those on its own cluster."""
    return [pid for child in children(process.pid) for pid in children(child) if trains(pid)]


def at_work(data: str, out: Path) -> Lacuna:
    """A training that has made steps and has not come to its end."""
    before, process = clock(out), start_training("deepgin", data, out)
    assert wait_until(lambda: process.poll() is not None or (clock(out) != before and len(ranks(process)) == 2))
    assert process.poll() is None
    return process


def test_one_run_is_killed_and_terminated_and_then_finished(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = at_work(dataset.uri, out)
    run = read_tracked_run(tmp_path)
    kill_driver(process)
    assert end(process) == (-9, {})
    assert read_tracked_run(tmp_path).info.status == "RUNNING"  # as nobody could say otherwise
    process = at_work(dataset.uri, out)
    process.terminate()
    code, report = end(process)
    assert (code, report["error"]) == (1, "interrupted: run the same command again to continue")
    assert find_newest_clock(str(out)) < IMAGES
    assert read_tracked_run(tmp_path).info.status == "KILLED"
    finish_training("deepgin", dataset.uri, out)
    check_reported_once(out, tmp_path)
    assert read_tracked_run(tmp_path).info.run_id == run.info.run_id


def test_a_run_whose_loss_is_no_number_has_failed(dataset: Dataset, tmp_path: Path) -> None:
    code, report = end(start_training(EXPLOSIVE, dataset.uri, tmp_path / "run"))
    assert code == 1
    assert report["error"].startswith("not finite: the gradient of generator.")
    assert "in phase 'generate' at 16 images" in report["error"]
    assert read_tracked_run(tmp_path).info.status == "FAILED"
