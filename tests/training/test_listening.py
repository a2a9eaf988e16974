"""What brings the words of ranks to the one who launched them: to the end, and from loader processes too."""

import logging
import os

import pytest

from pipelines.training.launcher import Every, _ForwardHandler
from pipelines.training.heartbeat import explain_wait


def test_what_is_done_again_and_again_is_done_at_the_end() -> None:
    done: list[int] = []
    with Every(60.0, lambda: done.append(1)):
        pass
    assert done == [1]


def test_whoever_stops_at_once_waits_for_nothing() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), Every(60.0, lambda: done.append(1)):
        raise KeyboardInterrupt
    assert done == []


def test_a_fault_of_the_last_time_is_no_fault_of_the_block() -> None:
    done: list[int] = []

    def fail() -> None:
        done.append(1)
        raise OSError("S3 is away")

    with Every(60.0, fail):
        pass
    assert done == [1]


def test_a_fork_says_its_warnings_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    ear, record = _ForwardHandler(told.append), logging.makeLogRecord({"msg": "S3 is away", "levelno": logging.WARNING})
    child = os.fork()
    if child == 0:
        ear.emit(record)
        os._exit(1 if told else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert "S3 is away" in capfd.readouterr().err
    ear.emit(record)
    assert told == ["S3 is away"]


CPU, GPU = {"CPU": 1, "GPU": 0}, {"CPU": 2, "GPU": 1}


@pytest.mark.parametrize(
    ("workers", "resources", "there", "queued", "said"),
    [
        ((2, 2), CPU, {"CPU": 2, "GPU": 0}, False, "starting 2 workers (61 s so far)"),
        ((1, 1), CPU, {"CPU": 2, "GPU": 0}, False, "starting 1 worker (61 s so far)"),
        ((2, 4), CPU, {"CPU": 2, "GPU": 0}, False, "starting 2 to 4 workers (61 s so far)"),
        ((4, 4), CPU, {"CPU": 2, "GPU": 0}, True, "waiting for 4 CPUs: the cluster has 2 (61 s so far)"),
        ((2, 2), CPU, {"CPU": 4, "GPU": 0}, True, "waiting for 2 CPUs: other work holds the cluster's (61 s so far)"),
        ((1, 1), GPU, {"CPU": 4, "GPU": 0}, True, "waiting for 1 GPU: the cluster has 0 (61 s so far)"),
        (
            (2, 2), GPU, {"CPU": 2, "GPU": 1}, True,
            "waiting for 4 CPUs: the cluster has 2; and for 2 GPUs: the cluster has 1 (61 s so far)",
        ),
    ],
)  # fmt: skip
def test_a_training_says_that_it_starts_and_waits_only_for_what_lacks(
    workers: tuple[int, int], resources: dict[str, int], there: dict[str, int], queued: bool, said: str
) -> None:
    assert explain_wait(workers, resources, there, queued, 61.4) == said
