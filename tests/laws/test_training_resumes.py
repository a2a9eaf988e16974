"""Laws 6 and 9: a training that was stopped or killed anywhere ends, bit for bit, where an undisturbed one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infra.settings import PROJECT_ROOT
from infra.world import World
from pipelines.checkpoints import open_checkpoint
from pipelines.keyed_rng import KeyedRng
from pipelines.training.mlflow_sync import read_points
from pipelines.training.run import TrainRun
from pipelines.training.worker import run_rank
from tests.sampling import sample_cases

pytestmark = pytest.mark.thorough

CLOCKS = [4, 8, 12, 16, 20, 24, 28, 32]
NETWORKS_AND_MOMENTS = ("adam.critic", "adam.generator", "critic", "generator")

CHILD = """
import os, signal, sys, time
from pathlib import Path
from infra import storage
from infra.world import World
from pipelines.training.worker import run_rank
from pipelines.training.run import TrainRun
from tests.making import train_recipe

data, out, run_id, fatal, pause = sys.argv[1:]
publish, count = storage.publish, 0

def watched(uri, data):  # the clock for the terminal is another thread's
    global count
    count += not uri.endswith("progress.json")
    if count == int(fatal) and not uri.endswith("progress.json"):
        aside = Path(uri).parent / f"{storage.ASIDE}torn"
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    publish(uri, data)
    time.sleep(float(pause))

storage.publish = watched
recipe = train_recipe()
run = TrainRun(
    recipe=recipe, data=(data,), out=out, until_images=recipe.images, run_id=run_id, tracking_uri=""
)
run_rank(run, World(), lambda _: None)
"""


def start(run: TrainRun, *, fatal_publish: int = 0, pause_seconds: float = 0.0) -> subprocess.Popen[bytes]:
    """A training in a process of its own, which kills itself in the middle of one of its writes if asked to."""
    arguments = (run.data[0], run.out, run.run_id, str(fatal_publish), str(pause_seconds))
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], cwd=PROJECT_ROOT)


def elsewhere(run: TrainRun, folder: Path) -> TrainRun:
    """The same training from the beginning, in a folder of its own."""
    return replace(run, out=str(folder / "run"))


def clock(run: TrainRun) -> int:
    """What the run last said of its clock."""
    path = Path(run.out) / "progress.json"
    return int(json.loads(path.read_bytes())["images_seen"]) if path.exists() else 0


def finish(run: TrainRun) -> None:
    """The same training to its end, in this process."""
    run_rank(run, World(), lambda _: None)


def assert_same_end(run: TrainRun, undisturbed: TrainRun) -> None:
    """Every tensor has the same bits, and every point of the curves is there once."""
    one, other = open_checkpoint(run.out), open_checkpoint(undisturbed.out)
    assert one.state["ledger"] == other.state["ledger"]
    for name in NETWORKS_AND_MOMENTS:
        tensors, expected = one.tensors(name), other.tensors(name)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in tensors.items()), name
    assert [point["images_seen"] for point in read_points(run.out)] == CLOCKS
    for point, same in zip(read_points(run.out), read_points(undisturbed.out), strict=True):
        assert point["values"].get("l1_out") == same["values"].get("l1_out")


@pytest.mark.parametrize("stop", [4, 16, 28])
def test_a_training_in_two_parts_is_one_training(trained: TrainRun, tmp_path: Path, stop: int) -> None:
    run = elsewhere(trained, tmp_path)
    finish(replace(run, until_images=stop))
    assert open_checkpoint(run.out).images_seen == stop
    finish(run)
    assert_same_end(run, trained)


def test_a_training_in_many_parts_is_one_training(trained: TrainRun, tmp_path: Path) -> None:
    run = elsewhere(trained, tmp_path)
    for stop in CLOCKS:
        finish(replace(run, until_images=stop))
    assert_same_end(run, trained)


def test_another_process_with_other_global_seeds_ends_the_same(trained: TrainRun, tmp_path: Path) -> None:
    torch.manual_seed(int(time.time()))
    run = elsewhere(trained, tmp_path)
    assert start(run).wait(120) == 0
    assert_same_end(run, trained)


def test_a_training_that_is_killed_between_checkpoints_goes_on(trained: TrainRun, tmp_path: Path) -> None:
    run = elsewhere(trained, tmp_path)
    child = start(run, pause_seconds=0.15)
    while clock(run) < 20 and child.poll() is None:
        time.sleep(0.02)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert open_checkpoint(run.out).images_seen < 32
    finish(run)
    assert_same_end(run, trained)


def test_a_kill_before_the_record_of_a_checkpoint_leaves_the_one_before(trained: TrainRun, tmp_path: Path) -> None:
    assert_survives(
        trained, tmp_path, fatal_publish=16, committed=8
    )  # the first list; fills, metrics, 4 + 1 files, list


@pytest.mark.parametrize("fatal_publish", sample_cases(range(1, 34), (1, 6, 9, 14, 17, 24, 33)))
def test_a_kill_in_any_write_is_survived(trained: TrainRun, tmp_path: Path, fatal_publish: int) -> None:
    """A checkpoint is committed by its state, the seventh of its eight writes; the list may come after the kill."""
    assert_survives(trained, tmp_path, fatal_publish, committed=(fatal_publish - 1) // 8 * 8)


def assert_survives(trained: TrainRun, folder: Path, fatal_publish: int, committed: int) -> None:
    """A training killed in its nth write has what was committed before and goes on to the same end."""
    run = elsewhere(trained, folder)
    assert start(run, fatal_publish=fatal_publish).wait(120) == -signal.SIGKILL
    if committed:
        assert open_checkpoint(run.out).images_seen == committed
        assert [p["images_seen"] for p in read_points(run.out)] == [c for c in CLOCKS if c <= committed]
    finish(run)
    assert_same_end(run, trained)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_number_of_kills_at_any_time_is_survived(trained: TrainRun, tmp_path: Path, seed: int) -> None:
    run, rng, kills = elsewhere(trained, tmp_path), KeyedRng(seed, "kills"), 0
    while kills < 6:
        child = start(run, pause_seconds=0.1)
        try:
            child.wait(2 + 4 * rng.fraction())
            break
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(60)
            kills += 1
    finish(run)
    assert_same_end(run, trained)


def test_a_resumed_training_that_forgets_its_moments_would_be_noticed(trained: TrainRun, tmp_path: Path) -> None:
    """The deliberate violation: the comparison sees a state that is only almost restored."""
    run = elsewhere(trained, tmp_path)
    finish(replace(run, until_images=16))
    folder = Path(open_checkpoint(run.out).uri)
    forget_moments(folder)
    finish(run)
    with pytest.raises(AssertionError):
        assert_same_end(run, trained)


def forget_moments(folder: Path) -> None:
    """Replaces the generator's moments by none, with a record that fits."""
    from safetensors.torch import save

    from pipelines.checked_files import seal, unseal
    from pipelines.records import sha256_hex

    state = unseal((folder / "state.json").read_bytes(), str(folder))
    state["files"]["adam.generator.safetensors"] = sha256_hex(save({}))
    (folder / "adam.generator.safetensors").write_bytes(save({}))
    (folder / "state.json").write_bytes(seal(state))
