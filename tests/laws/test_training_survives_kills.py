"""Laws 6 and 9: a training whose worker, node or driver is killed ends with the bits of an undisturbed one.

LACUNA_SOAK_TRAINING_KILLS says how many kills each paper's training takes in all, the kinds in turn, at random moments;
after every third it is finished, compared and begun anew, and so where it was over before: only kills in mid-run count.
By default one for each of three papers, which are the three kinds.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from infra.world import World
from pipelines.checkpoints import find_newest_clock, open_checkpoint
from pipelines.manifest import Dataset
from pipelines.stream.batching import Stream
from pipelines.training.state import Ledger
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from tests.laws.ends import check_reported_once, read_tracked_run, same_end
from tests.laws.killing import SECONDS_TO_END, Lacuna, TwoNodes, end, kill_driver, trains, two_nodes, wait_until
from tests.laws.trainings import IMAGES, LONG, MODELS, clock, finish_training, num_workers, recipe_of, start_training

pytestmark = pytest.mark.slow

NUM_KILLS: Final = int(os.environ.get("LACUNA_SOAK_TRAINING_KILLS", "1"))
_KILLS_OF_A_RUN: Final = 3
_RUNS_IN_VAIN: Final = 5
"""So many more trainings than kills: some are over before the moment that was drawn."""
_MOMENTS_SECONDS: Final = 3.0
KINDS: Final = ("worker", "driver", "node")
SAMPLED: Final = MODELS if NUM_KILLS > 1 else ("deepgin", "spn-probabilistic", "distill-net8")


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    """A cluster of two nodes, of which the second is killed and replaced."""
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module", params=SAMPLED)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(model: str, dataset: Dataset, nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training to its end."""
    out = tmp_path_factory.mktemp(model) / "run"
    finish_training(model, dataset.uri, out, RAY_ADDRESS=nodes.address)
    return out


class Killed:
    """A training that is killed and goes on."""

    def __init__(self, model: str, data: str, out: Path, nodes: TwoNodes) -> None:
        self.out, self.nodes, self.rng = out, nodes, random.Random(time.time_ns())
        self.model, self.data = model, data
        self.process = self._start()

    def _start(self) -> Lacuna:
        return start_training(self.model, self.data, self.out, RAY_ADDRESS=self.nodes.address)

    def kill(self, kind: str) -> bool:
        """Ends a part of it some time after it has made steps; whether that was in mid-run."""
        before = clock(self.out)
        wait_until(lambda: self.process.poll() is not None or (clock(self.out) != before and self._all_train()))
        time.sleep(self.rng.uniform(0, _MOMENTS_SECONDS))
        if self.process.poll() is not None or not self._all_train():
            return False
        struck = self._strike(kind)
        in_mid_run = struck and find_newest_clock(str(self.out)) < IMAGES
        self._mend(kind)
        return in_mid_run

    def _all_train(self) -> bool:
        return len(self.nodes.workers(trains)) == 2

    def _strike(self, kind: str) -> bool:
        """Whether there was something to kill."""
        if kind == "worker":
            return self.nodes.kill_worker(self.rng, trains)
        if kind == "node":
            self.nodes.kill_second_node()
        else:
            kill_driver(self.process)
        return True

    def _mend(self, kind: str) -> None:
        """What Ray does not do: another node, another driver."""
        if kind == "node":
            self.nodes.add_second_node()
        elif kind == "driver":
            self.process.communicate()
            self.process = self._start()

    def finish(self) -> None:
        """Waits for the end; a fault is told, and the same command goes on."""
        code, report = end(self.process)
        if code != 0:
            assert report["error"]
            finish_training(self.model, self.data, self.out, RAY_ADDRESS=self.nodes.address)


def kill_in_turn(training: Killed, kinds: list[str]) -> None:
    """Kills it as often as a run is killed; drops the kinds of the kills that came before it was over."""
    for _ in range(_KILLS_OF_A_RUN):
        if not kinds or not training.kill(kinds[0]):
            return
        kinds.pop(0)


def test_killed_trainings_end_as_undisturbed_ones(
    model: str, undisturbed: Path, dataset: Dataset, nodes: TwoNodes, tmp_path: Path
) -> None:
    first = MODELS.index(model)  # so that one kill each tries all kinds
    kinds = [KINDS[(first + number) % len(KINDS)] for number in range(NUM_KILLS)]
    for number in range(NUM_KILLS + _RUNS_IN_VAIN):
        folder = tmp_path / str(number)
        folder.mkdir()
        training = Killed(model, dataset.uri, folder / "run", nodes)
        kill_in_turn(training, kinds)
        training.finish()
        same_end(training.out, undisturbed)
        check_reported_once(training.out, folder)
        if not kinds:
            return
    pytest.fail(f"{len(kinds)} of {NUM_KILLS} kills found no training in mid-run")


TERMS: Final = ("l1_coarse", "l1_low", "l1_out")


def first_points(out: Path) -> list[float]:
    """Terms of the warm-up, in which no critic magnifies rounding."""
    return [p["values"][name] for p in read_points(str(out))[:4] for name in TERMS]


@pytest.mark.soak  # what comes and goes in one run is tried below
def test_a_lost_node_that_nobody_replaces_leaves_one_worker_that_goes_on(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with two_nodes() as nodes:
        process = start_training(
            "deepgin", dataset.uri, out, "--workers", "2", "--min-workers", "1",
            RAY_ADDRESS=nodes.address, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="15",
        )  # fmt: skip
        wait_until(lambda: clock(out) >= 32 or process.poll() is not None)
        assert clock(out) < IMAGES // 2
        nodes.kill_second_node()
        code, report = end(process)
    assert code == 0, report
    assert report["images_seen"] == IMAGES
    check_reported_once(out, tmp_path)


def test_workers_come_and_go_in_one_run_that_sees_every_photo_once(dataset: Dataset, tmp_path: Path) -> None:
    """Two workers, one after the loss of a node, two when there is another: the sequence is that of one process."""
    out = tmp_path / "run"
    with two_nodes() as nodes:
        process = start_training(
            LONG, dataset.uri, out, "--workers", "2", "--min-workers", "1",
            RAY_ADDRESS=nodes.address, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="15",
        )  # fmt: skip
        assert wait_until(lambda: clock(out) > IMAGES)
        assert num_workers(out) == 2
        nodes.kill_second_node()
        assert wait_until(lambda: num_workers(out) == 1)
        nodes.add_second_node()
        assert wait_until(lambda: num_workers(out) == 2)
        here = find_newest_clock(str(out))
        assert wait_until(lambda: find_newest_clock(str(out)) > here)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS_TO_END) != 0
    assert read_tracked_run(tmp_path).info.status == "KILLED"
    end_of_it = open_checkpoint(str(out))
    assert end_of_it.state["ledger"]["photos_digest"] == hash_path(recipe_of(LONG), dataset, end_of_it.images_seen)
    clocks = [p["images_seen"] for p in read_points(str(out))]
    assert clocks == list(range(16, end_of_it.images_seen + 1, 16))


def hash_path(recipe: TrainRecipe, dataset: Dataset, images: int) -> int:
    """Of the photos that the recipe means to be seen, by one process that trains nothing."""
    ledger, batches = Ledger(), Stream((dataset,), recipe.stream, recipe.seed).batches(0, recipe.batch_size, World())
    for batch in islice(batches, images // recipe.batch_size):
        ledger.take(batch.keys, batch.positions)
    return ledger.over(World())


@pytest.mark.soak
def test_two_workers_then_one_then_two_are_one_training(dataset: Dataset, tmp_path: Path) -> None:
    """By the same command with other --workers; losses of the first steps are those of two workers to rounding."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    for workers, images in (("2", "8"), ("1", "16"), ("2", "32")):
        finish_training("deepgin", dataset.uri, out, "--workers", workers, "--images", images)
    finish_training("deepgin", dataset.uri, alone, "--workers", "2", "--images", "32")
    assert [p["images_seen"] for p in read_points(str(out))] == list(range(4, 33, 4))
    assert first_points(out) == pytest.approx(first_points(alone), rel=5e-3)
