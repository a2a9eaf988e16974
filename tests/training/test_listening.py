"""What brings the words of ranks to the one who launched them: to the end, and from loader processes too."""

import logging
import os

import pytest

from pipelines.training.launch import _Ear, _Every


def test_what_is_done_again_and_again_is_done_at_the_end() -> None:
    done: list[int] = []
    with _Every(60.0, lambda: done.append(1)):
        pass
    assert done == [1]


def test_whoever_stops_at_once_waits_for_nothing() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), _Every(60.0, lambda: done.append(1)):
        raise KeyboardInterrupt
    assert done == []


def test_a_fault_of_the_last_time_is_no_fault_of_the_block() -> None:
    done: list[int] = []

    def fail() -> None:
        done.append(1)
        raise OSError("S3 is away")

    with _Every(60.0, fail):
        pass
    assert done == [1]


def test_a_fork_says_its_warnings_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    ear, record = _Ear(told.append), logging.makeLogRecord({"msg": "S3 is away", "levelno": logging.WARNING})
    child = os.fork()
    if child == 0:
        ear.emit(record)
        os._exit(1 if told else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert "S3 is away" in capfd.readouterr().err
    ear.emit(record)
    assert told == ["S3 is away"]
