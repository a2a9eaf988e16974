"""Real Ray Train with two workers: where a run ends, what is left, and what a lost worker or a fault does."""

import contextlib
import os
import re
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.cluster import has_waiting_group
from infra.world import get_world
from pipelines.checkpoints import open_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import JobError
from pipelines.training.launcher import launch
from pipelines.training.loop import Point
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, begin_attempt, claim_run
from tests.making import train_recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

CLOCKS = [4, 8, 12, 16, 20, 24, 28, 32]
NETWORKS_AND_MOMENTS = ("adam.critic", "adam.generator", "critic", "generator")


class Watched(TrainRun):
    """A run that leaves the pid of each of its ranks beside `out`, and that takes its time.

    Ranks read `until_images` once, before their first step, and rank 0 reads `out` at every point.
    """

    def __getattribute__(self, name: str) -> Any:
        if name == "until_images":
            pids = Path(super().__getattribute__("out")).parent / "pids"
            pids.mkdir(exist_ok=True)
            with (pids / str(get_world().rank)).open("a") as file:
                file.write(f"{os.getpid()}\n")
        elif name == "out":
            time.sleep(0.2)
        return super().__getattribute__(name)


def claim(recipe: TrainRecipe, dataset: Dataset, folder: Path, kind: type[TrainRun] = TrainRun) -> TrainRun:
    """A run of the recipe that has not begun."""
    out = str(folder / "run")
    return kind(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )


def pids(run: TrainRun, rank: int) -> list[int]:
    """The processes that were this rank, in order."""
    path = Path(run.out).parent / "pids" / str(rank)
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def same_tensors(one: str, other: str) -> bool:
    """Whether two runs ended with the same bits."""
    ends = open_checkpoint(one), open_checkpoint(other)
    pairs = [[end.tensors(name) for end in ends] for name in NETWORKS_AND_MOMENTS]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


@pytest.fixture(scope="module")
def pair(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainRun, str, list[dict[str, Any]]]:
    """The small recipe on two workers, undisturbed: the run, what `launch` gave, and the points it reported."""
    points: list[dict[str, Any]] = []
    run = claim(train_recipe(), dataset, tmp_path_factory.mktemp("pair"))
    return run, launch(run, 2, points.append), points


@pytest.fixture(autouse=True)
def by_value() -> None:
    """The workers cannot import this module: what it defines travels with its code."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


Pair = tuple[TrainRun, str, list[dict[str, Any]]]


def test_two_workers_end_at_the_clock_with_every_point_once(pair: Pair) -> None:
    run, uri, _ = pair
    end = open_checkpoint(run.out)
    assert (end.uri, end.images_seen) == (uri, 32)
    assert (end.state["ledger"]["num_steps"], end.state["ledger"]["batch_size"]) == (8, 4)
    assert [point["images_seen"] for point in read_points(run.out)] == CLOCKS
    assert len(list((Path(run.out) / "fills").iterdir())) == 4


def test_the_launching_process_gets_progress(pair: Pair) -> None:
    points = [point["images_seen"] for point in pair[2]]
    assert points
    assert points == sorted(points)
    assert set(points) <= set(CLOCKS)


def test_nothing_of_ray_is_left_in_the_run(pair: Pair) -> None:
    names = {path.name for path in Path(pair[0].out).iterdir()}
    assert names == {"run.json", "progress.json", "checkpoints", "checkpoints.json", "metrics", "fills"}


def test_two_workers_see_what_one_sees(pair: Pair, trained: TrainRun) -> None:
    ledgers = [open_checkpoint(run.out).state["ledger"] for run in (pair[0], trained)]
    assert ledgers[0] == ledgers[1]
    assert ledgers[0]["photos_digest"]


def test_two_workers_learn_what_one_learns(pair: Pair, trained: TrainRun) -> None:
    together, alone = read_points(pair[0].out), read_points(trained.out)
    for one, other in zip(together[:4], alone[:4], strict=True):
        for name in ("l1_coarse", "l1_low", "l1_out", "gradient_norm_reconstruct"):
            assert one["values"][name] == pytest.approx(other["values"][name], rel=5e-3), (one["images_seen"], name)


def test_the_first_gradient_of_two_workers_is_that_of_one(dataset: Dataset, tmp_path: Path) -> None:
    ends = []
    for workers in (1, 2):
        run = replace(claim(train_recipe(), dataset, tmp_path / str(workers)), until_images=4)
        launch(run, workers, lambda _: None)
        ends.append(open_checkpoint(run.out).tensors("adam.generator"))
    one, other = ends
    assert one.keys() == other.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in one.items() if name.endswith(".exp_avg"))
    for name in (name for name in one if name.endswith(".exp_avg")):  # a tenth of the averaged gradient
        assert torch.allclose(one[name], other[name], rtol=1e-3, atol=1e-5 * largest), name


def test_a_worker_that_is_killed_is_replaced_and_nothing_changes(pair: Pair, dataset: Dataset, tmp_path: Path) -> None:
    run = claim(train_recipe(), dataset, tmp_path, Watched)
    killed: list[int] = []

    def kill_once(point: dict[str, Any]) -> None:
        if point["images_seen"] >= 12 and not killed:
            killed.append(pids(run, 1)[-1])
            os.kill(killed[0], signal.SIGKILL)

    lines: list[str] = []
    launch(run, 2, kill_once, warn=lines.append)
    assert any(
        re.fullmatch(r"2 ranks go on at (8|16) images: .*(were killed|was lost.*)", line, re.DOTALL) for line in lines
    )
    assert killed == pids(run, 1)[:1]
    assert len(pids(run, 0)) == len(pids(run, 1)) == 2
    assert set(pids(run, 0)).isdisjoint(pids(run, 1))
    assert same_tensors(run.out, pair[0].out)
    assert [point["images_seen"] for point in read_points(run.out)] == CLOCKS


def test_a_training_stopped_and_launched_again_ends_the_same(pair: Pair, dataset: Dataset, tmp_path: Path) -> None:
    run = claim(train_recipe(), dataset, tmp_path)
    for until_images in (12, 32):
        launch(replace(run, until_images=until_images), 2, lambda _: None)
    assert same_tensors(run.out, pair[0].out)


def test_a_training_that_explodes_says_where_and_leaves_its_last_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    recipe = train_recipe()
    recipe = replace(recipe, objective=replace(recipe.objective, adversarial_weight=float("inf")))
    run = claim(recipe, dataset, tmp_path)
    named = r"the gradient of generator\.\S+ and of \d+ more on rank 0 and 1"
    with pytest.raises(JobError, match=rf"not finite: {named}, in phase 'generate' at 16 images"):
        launch(run, 2, lambda _: None)
    assert open_checkpoint(run.out).images_seen == 16


def test_a_dataset_that_went_away_is_named(pair: Pair, tmp_path: Path) -> None:
    run = replace(pair[0], data=(str(tmp_path / "gone"),), out=str(tmp_path / "run"))
    with pytest.raises(JobError, match=r"rank \d: no dataset at .*/gone"):
        launch(run, 2, lambda _: None)


def test_a_folder_that_nodes_do_not_see_is_named_at_once(dataset: Dataset, tmp_path: Path) -> None:
    run, lines = replace(claim(train_recipe(), dataset, tmp_path), attempt="of a command elsewhere"), list[str]()
    with pytest.raises(
        JobError, match=rf"2 of 2 ranks do not see {run.out}: --out must be a folder that all nodes see"
    ):
        launch(run, 2, lambda _: None, warn=lines.append)
    assert any("does not see the folder of the run: no file at" in line for line in lines)


LAUNCHER = os.getpid()


class Unreadable(TrainRun):
    """A run whose place only the launching process can read."""

    def __getattribute__(self, name: str) -> Any:
        if name == "out" and os.getpid() != LAUNCHER:
            raise PermissionError("s3://bucket/run: access denied")
        return super().__getattribute__(name)


def test_a_place_whose_clock_cannot_be_read_is_begun_at_three_times(dataset: Dataset, tmp_path: Path) -> None:
    run, lines = claim(train_recipe(), dataset, tmp_path, Unreadable), list[str]()
    with pytest.raises(
        JobError, match=r"gave up after 3 starts at a clock that cannot be read: rank \d: .*access denied"
    ):
        launch(run, 2, lambda _: None, warn=lines.append)
    assert sum(line.startswith("2 ranks go on at 0 images: rank ") for line in lines) >= 2


def test_a_command_that_another_has_followed_ends_alike_on_all_ranks(dataset: Dataset, tmp_path: Path) -> None:
    run = claim(train_recipe(), dataset, tmp_path)
    older = replace(run, attempt=begin_attempt(run.out))
    begin_attempt(run.out)
    with pytest.raises(JobError, match=r"another command has begun to train at .*: this one has ended"):
        launch(older, 2, lambda _: None)


def stumble(folder: Path, rank: int, point: Point) -> None:
    """Let rank 1 stand still for a minute at its third point, and leave its pid at its fifth."""
    if rank == 1 and point.images_seen == 12:
        wait_for_a_dead_disk()
    if rank == 1 and point.images_seen == 20:
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(1)


def wait_for_a_dead_disk() -> None:
    time.sleep(60)


def test_a_hung_rank_is_named_within_a_minute_and_so_is_a_stopped_one(dataset: Dataset, tmp_path: Path) -> None:
    run, lines = claim(train_recipe(), dataset, tmp_path), list[str]()
    stopped: list[int] = []

    def take_line(line: str) -> None:
        lines.append(line)
        if stopped and line.startswith("silent for "):
            os.kill(stopped[0], signal.SIGCONT)

    def stop_once(point: dict[str, Any]) -> None:
        pid = tmp_path / "pid"
        if pid.exists() and not stopped:
            stopped.append(int(pid.read_text()))
            os.kill(stopped[0], signal.SIGSTOP)

    launch(run, 2, stop_once, warn=take_line, on_point=partial(stumble, tmp_path))
    (place,) = (line for line in lines if line.startswith("rank 1 (process"))
    assert "wait_for_a_dead_disk" in place
    assert any(line.startswith("silent for ") and f"rank 1 (process {stopped[0]} on" in line for line in lines)
    assert open_checkpoint(run.out).images_seen == 32


def descends(pid: int, ancestor: int) -> bool:
    """Whether the process was started by this one, or by one that was."""
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def find_processes(title: str) -> list[int]:
    """Our Ray's processes of this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(title.encode()) and descends(int(path.parent.name), os.getpid()):
                found.append(int(path.parent.name))
    return found


def test_the_process_that_ranks_report_to_may_be_lost(pair: Pair, dataset: Dataset, tmp_path: Path) -> None:
    run, killed = claim(train_recipe(), dataset, tmp_path, Watched), list[int]()

    def kill_both(point: dict[str, Any]) -> None:
        if point["images_seen"] >= 12 and not killed:
            killed.extend([find_processes("ray::HeartbeatMonitor")[0], pids(run, 0)[-1]])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    launch(run, 2, kill_both)
    assert len(killed) == 2
    assert same_tensors(run.out, pair[0].out)


def test_workers_are_queued_until_the_cluster_has_a_place_for_them() -> None:
    from ray.util import placement_group, remove_placement_group

    for number, queued in ((1, False), (100, True)):
        group = placement_group([{"CPU": 1}] * number, strategy="PACK")
        group.wait(2)
        assert has_waiting_group({"CPU": 1, "GPU": 0}) is queued
        assert not has_waiting_group({"CPU": 3, "GPU": 0})
        remove_placement_group(group)
