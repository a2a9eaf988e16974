"""What curves tell of the machine: it is what was used."""

import time

import pytest
import torch

from pipelines.training.loop import MEASURES
from pipelines.training.points import committed_points
from pipelines.training.run import TrainRun
from pipelines.training.usage import USAGE, Usage


def busy(seconds: float) -> None:
    """Uses a core."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_work_and_rest_are_told_apart() -> None:
    usage = Usage(torch.device("cpu"))
    busy(0.3)
    worked = usage.since()["cores_used"]
    time.sleep(0.3)
    rested = usage.since()["cores_used"]
    assert rested < 0.2 < worked <= 1.5


def test_shares_are_shares_of_a_machine_that_is_there() -> None:
    usage = Usage(torch.device("cpu"))
    busy(0.1)
    used = usage.since()
    assert 0 <= used["machine_cpu_share"] <= 1
    assert 0 < used["machine_memory_share"] < 1
    assert min(used["machine_received_mb_per_second"], used["machine_sent_mb_per_second"]) >= 0


def test_every_point_has_them(trained: TrainRun) -> None:
    names = set(USAGE) if torch.cuda.is_available() else set(USAGE) - {"gpu_busy_share"}
    for point in committed_points(trained.out):
        assert names <= point["values"].keys()


@pytest.mark.parametrize("name", USAGE)
def test_none_of_them_counts_as_a_result(name: str) -> None:
    assert name in MEASURES
