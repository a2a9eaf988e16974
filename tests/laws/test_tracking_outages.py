"""Law 9 with real MLflow servers that fail: no step waits for them, and in the end each point is there exactly once."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from mlflow.tracking import MlflowClient

from infra.tracking import CLOCK_METRIC, RUN_TAG
from infra.world import World
from pipelines.manifest import Dataset
from pipelines.training.loop import Point
from pipelines.training.mlflow_sync import MlflowSync
from pipelines.training.mlflow_sync import read_points
from pipelines.training.run import TrainRun, claim_run
from pipelines.training.worker import run_rank
from tests.laws.failing_store import Account, Request, failing_store
from tests.making import train_recipe
from tests.sampling import sample_cases
from tests.tracking_servers import TrackingServer, tracking_server, tracking_stack

pytestmark = pytest.mark.slow

_PAUSE_SECONDS: Final = 0.25
_OUTAGE_SECONDS: Final = 30.0
_FAR_LESS_THAN_THE_OUTAGE: Final = 8.0
_SHORT_OUTAGE_SECONDS: Final = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    with tracking_server(tmp_path / "server") as running:
        yield running


@dataclass(frozen=True)
class Timed(TrainRun):
    """A run that takes its time, and notes when it came to each point."""

    moments: tuple[list[float], ...] = ()

    def observed(self, rank: int, point: Point) -> None:
        self.moments[0].append(time.monotonic())
        time.sleep(_PAUSE_SECONDS)


def tracked(dataset: Dataset, out: Path, uri: str, images: int) -> Timed:
    """A run that a server is to be told of."""
    recipe = train_recipe(images=images, constant_images=images // 2)
    run_id = claim_run(recipe, (dataset,), str(out))
    return Timed(recipe, (dataset.uri,), str(out), images, run_id, uri, moments=([],))


def mlflow_run(uri: str, run: TrainRun) -> str:
    """MLflow's id of its run, of which there is one."""
    client = MlflowClient(uri)
    (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()], f"tags.`{RUN_TAG}` != ''")
    assert found.data.tags[RUN_TAG] == run.run_id
    return str(found.info.run_id)


@dataclass
class Outage:
    """A server that stands still from a run's tenth point on; called at each of its checkpoints, as `report` is."""

    server: TrackingServer
    run: Timed
    seconds: float
    began: float = 0.0
    ended: float = 0.0

    def __call__(self, *_: Any) -> None:
        now = time.monotonic()
        if not self.began and len(self.run.moments[0]) >= 10:
            self.began = now
            self.server.stop()
        elif self.began and not self.ended and now - self.began > self.seconds:
            self.server.go_on()
            self.ended = now


def points_told(uri: str, run: TrainRun) -> list[tuple[int, int, float]]:
    """What the server has of a metric: step, time and value of every entry."""
    history = MlflowClient(uri).get_metric_history(mlflow_run(uri, run), "val_psnr_hole")
    speeds = MlflowClient(uri).get_metric_history(mlflow_run(uri, run), CLOCK_METRIC)
    assert sorted(m.step for m in speeds) == [p["images_seen"] for p in read_points(run.out)]
    return sorted((m.step, m.timestamp, m.value) for m in history)


def points_written(run: TrainRun) -> list[tuple[int, int, float]]:
    points = [(p["images_seen"], p["unix_ms"], p["values"]) for p in read_points(run.out)]
    return [(clock, at, values["val_psnr_hole"]) for clock, at, values in points if "val_psnr_hole" in values]


def faults_of(account: Account) -> set[str]:
    """The faults that really happened."""
    return {fault for _, fault in account.requests if fault}


def silent(*_: object) -> None:
    """Reports that nobody reads."""


def test_a_server_that_stands_still_for_half_a_minute_stops_no_step(
    dataset: Dataset, server: TrackingServer, tmp_path: Path
) -> None:
    run = tracked(dataset, tmp_path / "run", server.uri, 480)
    outage = Outage(server, run, _OUTAGE_SECONDS)
    run_rank(run, World(), outage)
    server.go_on()
    MlflowSync(run).tell()  # as the command does at its end
    gaps = [after - before for before, after in zip(run.moments[0], run.moments[0][1:], strict=False)]
    assert run.moments[0][-1] - outage.began > _OUTAGE_SECONDS
    assert max(gaps) < _FAR_LESS_THAN_THE_OUTAGE, max(gaps)
    print(f"longest time between two points: {max(gaps) - _PAUSE_SECONDS:.2f} s")
    assert points_told(server.uri, run) == points_written(run)
    assert len(points_written(run)) == 60


def test_a_server_that_is_away_at_the_start_is_told_all_when_it_comes(
    dataset: Dataset, server: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the training itself: curves, all sheets of fills, and what it is made from."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    made_from = ("photos", dataset.manifest_sha256, dataset.uri)
    run = replace(tracked(dataset, tmp_path / "run", server.uri, 160), inputs=(made_from,), tags={"lacuna.code": "x"})

    def come(*_: Any) -> None:
        """Called at each checkpoint."""
        if len(run.moments[0]) == 20:
            server.go_on()

    server.stop()
    run_rank(run, World(), come)
    server.go_on()  # where it has not come to that, so that the server can end
    assert points_told(server.uri, run) == points_written(run)
    client, run_id = MlflowClient(server.uri), mlflow_run(server.uri, run)
    sheets = [Path(f.path).name for f in client.list_artifacts(run_id, "fills")]
    assert sheets == [f"{clock:012d}.png" for clock in range(8, 161, 8)]
    found = client.get_run(run_id)
    assert found.inputs
    assert [d.dataset.name for d in found.inputs.dataset_inputs] == ["photos"]
    assert found.data.tags["lacuna.code"] == "x"


@pytest.mark.parametrize("kind", sample_cases(("cut", "reset", "delay", "503", "mixed"), ("cut", "mixed")))
def test_answers_that_are_lost_late_or_faults_leave_each_point_once(
    dataset: Dataset, server: TrackingServer, tmp_path: Path, kind: str
) -> None:
    """`cut`: the server took the point and its answer was lost, so that it is sent again."""
    kinds = ("cut", "reset", "delay", "503") if kind == "mixed" else (kind,)

    def plan(request: Request, before: int) -> str:
        told = "log-batch" in request.path and before % 2 == 0
        return kinds[before // 2 % len(kinds)] if told else ""

    with failing_store(server.uri, plan) as (proxy, account):
        run = replace(tracked(dataset, tmp_path / "run", server.uri, 32), tracking_uri=proxy)
        run_rank(run, World(), silent)
        MlflowSync(run).tell()
    assert faults_of(account) == set(kinds)
    MlflowSync(replace(run, tracking_uri=server.uri)).tell()
    assert points_told(server.uri, run) == points_written(run)


def each_first_fails(request: Request, before: int) -> str:
    """Of points and files the first try: refused, or taken and its answer lost, so that they are sent again."""
    told = "log-batch" in request.path or request.path.endswith(".png")
    return ("cut", "503")[before // 2 % 2] if told and before % 2 == 0 else ""


def test_a_server_on_postgres_with_its_files_on_s3(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told in parts, past an outage and by way of faults: each point once, and the sheets of fills are there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with tracking_stack(tmp_path) as stack:
        server = stack.server
        run = tracked(dataset, tmp_path / "run", server.uri, 192)
        outage = Outage(server, run, _SHORT_OUTAGE_SECONDS)
        run_rank(replace(run, until_images=160), World(), outage)
        assert outage.began < outage.ended < run.moments[0][-1], "it did not stand still in mid-run"
        with failing_store(server.uri, each_first_fails) as (proxy, account):
            run_rank(replace(run, until_images=176, tracking_uri=proxy), World(), silent)
        assert faults_of(account) == {"cut", "503"}
        run_rank(run, World(), silent)
        MlflowSync(run).tell()
        assert points_told(server.uri, run) == points_written(run)
        fills = MlflowClient(server.uri).list_artifacts(mlflow_run(server.uri, run), "fills")
        assert [Path(f.path).name for f in fills][-1] == "000000000192.png"
        assert stack.files_below("000000000192.png")
