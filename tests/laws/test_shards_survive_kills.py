"""Laws 2 and 6: a build that is killed anywhere ends with the bytes of one worker's build that nobody disturbed.

LACUNA_SOAK_KILLS says how many kills are tried: a fourth takes the driver, a fourth its whole group, a fourth a worker
that runs a task, a fourth a whole node of two. Two kills a build; then it is finished and every file compared.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.laws.conftest import NUM_PHOTOS
from tests.laws.killing import (
    OPTIONS,
    Lacuna,
    TwoNodes,
    end,
    finish,
    kill_driver,
    kill_group,
    runs_a_task,
    start,
    two_nodes,
    wait_for_work,
    wait_until,
)
from tests.making import files_of

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("LACUNA_SOAK_KILLS", "4"))
NUM_BUILDS = -(-NUM_KILLS // 4)
"""Builds that lose their driver and their group; as many more lose a worker and a node."""


def words(root: Path, out: Path) -> tuple[str, ...]:
    """The command's options."""
    return (*OPTIONS, "--root", str(root), "--out", str(out))


def progress_of(out: Path) -> int:
    """How many shards have their record."""
    return len(list((out / ".build" / "new" / "records").glob("*.json")))


@pytest.fixture(scope="module")
def seconds(photos_of_the_law: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a build takes from its listing to its end."""
    out = tmp_path_factory.mktemp("timed") / "data"
    process = start(*words(photos_of_the_law, out))
    wait_for_work(process, out)
    begun = time.monotonic()
    end(process)
    return time.monotonic() - begun


def check_finished(out: Path, expected: dict[str, bytes], progress: list[int]) -> None:
    """All files as they ought to be, none beside them; then they may go."""
    assert sorted(files_of(out)) == sorted(expected), progress
    assert files_of(out) == expected
    assert not [p for p in out.rglob("*") if p.name == ".build" or p.name.startswith(".aside-")]
    shutil.rmtree(out)


@pytest.mark.parametrize("build", range(NUM_BUILDS))
def test_a_build_whose_driver_and_group_are_killed(
    photos_of_the_law: Path, unharmed: dict[str, bytes], seconds: float, tmp_path: Path, build: int
) -> None:
    rng, out, progress = random.Random(time.time_ns()), tmp_path / "data", []
    for kill in rng.sample((kill_driver, kill_group), 2):
        process = start(*words(photos_of_the_law, out))
        wait_for_work(process, out)
        time.sleep(rng.uniform(0, seconds))
        kill(process)
        process.communicate()
        progress.append(progress_of(out))
    assert finish(*words(photos_of_the_law, out))["num_written"] == NUM_PHOTOS
    check_finished(out, unharmed, progress)


@pytest.mark.parametrize("build", range(NUM_BUILDS))
def test_a_build_that_loses_a_worker_and_a_node(
    photos_of_the_law: Path, unharmed: dict[str, bytes], seconds: float, tmp_path: Path, build: int
) -> None:
    rng, out, progress = random.Random(time.time_ns()), tmp_path / "data", []
    with two_nodes() as nodes:
        process = start(*words(photos_of_the_law, out), cluster=nodes.address)
        wait_for_work(process, out)
        for kill in rng.sample((kill_worker, kill_node), 2):
            time.sleep(rng.uniform(0, seconds / 2))
            progress.append(progress_of(out))
            kill(nodes, process, rng)
        code, report = end(process)
    if code != 0:  # a fault is told, and the same command goes on elsewhere
        assert report["error"]
        assert finish(*words(photos_of_the_law, out))["num_written"] == NUM_PHOTOS
    check_finished(out, unharmed, progress)


def kill_worker(nodes: TwoNodes, process: Lacuna, rng: random.Random) -> None:
    """One of the processes that run a task, as soon as there is one."""
    wait_until(lambda: process.poll() is not None or nodes.kill_worker(rng, runs_a_task))


def kill_node(nodes: TwoNodes, process: Lacuna, rng: random.Random) -> None:
    """The second node with all that runs on it."""
    nodes.kill_second_node()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_one_kill_in_the_midst_is_no_harm(
    photos_of_the_law: Path, unharmed: dict[str, bytes], seconds: float, tmp_path: Path, share: float
) -> None:
    out = tmp_path / "data"
    process = start(*words(photos_of_the_law, out))
    wait_for_work(process, out)
    time.sleep(seconds * share)
    kill_driver(process)
    process.communicate()
    assert not (out / "dataset.json").exists() or not (out / ".build").exists()
    finish(*words(photos_of_the_law, out))
    check_finished(out, unharmed, [])


def test_a_finished_build_survives_the_next_kill(
    photos_of_the_law: Path, unharmed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "data"
    finish(*words(photos_of_the_law, out))
    process = start(*words(photos_of_the_law, out))
    time.sleep(random.Random(time.time_ns()).uniform(0.2, 2))
    kill_group(process)
    process.communicate()
    assert files_of(out) == unharmed
    finish(*words(photos_of_the_law, out))
    check_finished(out, unharmed, [])
