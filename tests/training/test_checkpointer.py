"""Checkpoints are written while the training goes on: steps do not wait, and no fault of a write is lost."""

import errno
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra import retry, storage
from infra.world import World
from pipelines.checkpoints import open_checkpoint
from pipelines.records import JobError
from pipelines.training.checkpointer import PROGRESS_FILE, Checkpointer
from pipelines.training.loop import Point
from pipelines.training.run import TrainRun, begin_attempt, is_superseded
from pipelines.training.worker import run_rank
from tests.training.test_run import CLOCKS, list_committed_clocks, silent

pytestmark = pytest.mark.thorough


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, after_seconds: float = 0.0) -> None:
    """Make writes of the checkpoint of 16 photos fail."""
    publish = storage.publish

    def full(uri: str, data: bytes) -> None:
        if "checkpoints/000000000016" in uri:
            time.sleep(after_seconds)
            raise OSError(errno.ENOSPC, f"no space to write {uri}")
        publish(uri, data)

    monkeypatch.setattr(storage, "publish", full)


def test_a_checkpoint_that_cannot_be_written_ends_the_training_and_keeps_the_last(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch)
    run = replace(trained, out=str(tmp_path / "run"))
    with pytest.raises(OSError, match=r"no space to write .*000000000016"):
        run_rank(run, World(), silent)
    assert open_checkpoint(run.out).images_seen == 8
    assert list_committed_clocks(run.out) == CLOCKS[:2]


COME_TO_12 = threading.Event()


def watch_for_12(_: int, point: Point) -> None:
    """Set the event when the training has come to the clock 12."""
    if point.images_seen == 12:
        COME_TO_12.set()


def test_steps_are_made_while_a_checkpoint_is_written(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, in_time = storage.publish, list[bool]()

    def slow(uri: str, data: bytes) -> None:
        if "checkpoints/000000000008/critic" in uri:
            in_time.append(COME_TO_12.wait(60))
        publish(uri, data)

    COME_TO_12.clear()
    monkeypatch.setattr(storage, "publish", slow)
    run = replace(trained, out=str(tmp_path / "run"))
    run_rank(run, World(), silent, on_point=watch_for_12)
    assert in_time == [True]
    assert open_checkpoint(run.out).state["files"] == open_checkpoint(trained.out).state["files"]


def test_the_error_of_a_write_is_raised_though_something_else_fails_first(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any, point: Point) -> None:
        if point.images_seen == 20:
            raise RuntimeError("something else")

    fill_the_disk(monkeypatch, after_seconds=1)
    monkeypatch.setattr(Checkpointer, "show", fails)
    with pytest.raises(OSError, match="no space to write") as raised:
        run_rank(replace(trained, out=str(tmp_path / "run")), World(), silent)
    assert str(raised.value.__cause__) == "something else"


def test_a_store_that_fails_for_a_while_ends_no_training(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, failed = storage.publish, list[str]()

    def fails_once(uri: str, data: bytes) -> None:
        if "000000000016" in uri and uri not in failed:
            failed.append(uri)
            raise OSError(errno.EIO, f"cannot reach {uri}")
        publish(uri, data)

    monkeypatch.setattr(retry, "WAITS_SECONDS", (0.01,) * 20)
    monkeypatch.setattr(storage, "publish", fails_once)
    run = replace(trained, out=str(tmp_path / "run"))
    run_rank(run, World(), silent)
    assert len(failed) > 3
    assert open_checkpoint(run.out).state["files"] == open_checkpoint(trained.out).state["files"]


def test_no_step_waits_for_progress_to_be_shown(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, in_time = storage.publish, list[bool]()

    def slow(uri: str, data: bytes) -> None:
        if uri.endswith(PROGRESS_FILE) and not in_time:
            in_time.append(COME_TO_12.wait(60))
        publish(uri, data)

    COME_TO_12.clear()
    monkeypatch.setattr(storage, "publish", slow)
    run_rank(replace(trained, out=str(tmp_path / "run")), World(), silent, on_point=watch_for_12)
    assert in_time == [True]


def test_progress_that_cannot_be_shown_ends_no_training(
    trained: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish = storage.publish

    def fails(uri: str, data: bytes) -> None:
        if uri.endswith(PROGRESS_FILE):
            raise OSError(errno.EIO, f"cannot reach {uri}")
        publish(uri, data)

    monkeypatch.setattr(storage, "publish", fails)
    run = replace(trained, out=str(tmp_path / "run"))
    run_rank(run, World(), silent)
    assert list_committed_clocks(run.out) == CLOCKS
    assert "progress is not shown" in caplog.text


def test_a_command_that_another_has_followed_writes_nothing_more(trained: TrainRun, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    older = replace(trained, out=out, attempt=begin_attempt(out))
    run_rank(replace(older, until_images=8), World(), silent)
    newer = replace(older, attempt=begin_attempt(out))
    assert is_superseded(older)
    assert not is_superseded(newer)
    with pytest.raises(JobError, match=rf"another command has begun to train at {out}"):
        run_rank(older, World(), silent)
    assert list_committed_clocks(out) == CLOCKS[:2]
    run_rank(newer, World(), silent)
    assert list_committed_clocks(out) == CLOCKS
