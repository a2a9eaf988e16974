"""What curves tell of the machine: it is what was used."""

import math
import time

import pytest
import torch

from infra.world import World
from pipelines.training.loop import MEASURES, Meter
from pipelines.training.mlflow_sync import read_points
from pipelines.training.run import TrainRun
from pipelines.training.flops import GPU_BUSY, USAGE, Usage


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
    names = set(USAGE) - {GPU_BUSY}
    for point in read_points(trained.out):
        assert names <= point["values"].keys()


def test_a_machine_without_a_network_is_none_the_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.net_io_counters", lambda: None)
    used = Usage(torch.device("cpu")).since()
    assert (used["machine_received_mb_per_second"], used["machine_sent_mb_per_second"]) == (0, 0)


def test_a_gpu_that_tells_nothing_has_no_place_in_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(World(), 0)
    monkeypatch.setattr(meter._usage, "since", lambda: {GPU_BUSY: math.nan, "cores_used": 1.0})
    values = meter.point(4).values
    assert GPU_BUSY not in values
    assert values["cores_used"] == 1


@pytest.mark.parametrize("name", USAGE)
def test_none_of_them_counts_as_a_result(name: str) -> None:
    assert name in MEASURES
