"""Laws 2 and 6: a build that is killed any number of times, anywhere, ends with the bytes of one that never was.

LACUNA_SOAK_KILLS says how many kills are tried; every second one takes only the driver, the others its whole group.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT
from tests.making import photo_folder

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("LACUNA_SOAK_KILLS", "4"))
NUM_PHOTOS = 400
SECONDS_TO_START, SECONDS_TO_END = 120, 300
OPTIONS = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "4000", "--mask-size-px", "32")


def start(root: Path, out: Path) -> "subprocess.Popen[str]":
    """`lacuna shard` as a process that leads a group of its own."""
    command = [sys.executable, "-m", "jobs.cli", "shard", *OPTIONS, "--root", str(root), "--out", str(out)]
    return subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
    )


def finish(root: Path, out: Path) -> dict[str, object]:
    """Runs the build to its end; returns its report."""
    with start(root, out) as process:
        stdout, _ = process.communicate(timeout=SECONDS_TO_END)
    report: dict[str, object] = json.loads(stdout)
    assert process.returncode == 0, report
    return report


def kill_after(process: "subprocess.Popen[str]", workspace: Path, seconds: float, whole_group: bool) -> bool:
    """Kills the build so long after it has begun to write; returns whether it was still running then."""
    deadline = time.monotonic() + SECONDS_TO_START
    while process.poll() is None and not (workspace / "listed.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive and whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    elif alive:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_TO_END)
    return alive


def files_of(out: Path) -> dict[str, bytes]:
    """Every file below the place but the lock."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def progress_of(out: Path) -> int:
    """How many shards have their record."""
    return len(list((out / ".build" / "records").glob("*.json")))


@pytest.fixture(scope="module")
def photos_of_the_law(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough photos, in enough shards, that a kill finds the build at work."""
    return photo_folder(tmp_path_factory.mktemp("killed"), NUM_PHOTOS)


@pytest.fixture(scope="module")
def unharmed(photos_of_the_law: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The files of a build that nobody disturbed, and the seconds from its listing to its end."""
    out = tmp_path_factory.mktemp("unharmed") / "data"
    with start(photos_of_the_law, out) as process:
        while process.poll() is None and not (out / ".build" / "listed.json").exists():
            time.sleep(0.005)
        begun = time.monotonic()
        process.communicate(timeout=SECONDS_TO_END)
    return files_of(out), time.monotonic() - begun


def test_a_build_killed_again_and_again_has_the_bytes_of_one_that_was_not(
    photos_of_the_law: Path, unharmed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    expected, seconds = unharmed
    rng, out, progress = random.Random(time.time_ns()), tmp_path / "data", [0]
    for turn in range(NUM_KILLS):
        process = start(photos_of_the_law, out)
        kill_after(process, out / ".build", rng.uniform(0, seconds), whole_group=bool(turn % 2))
        progress.append(progress_of(out))
    report = finish(photos_of_the_law, out)
    assert sorted(files_of(out)) == sorted(expected), progress
    assert files_of(out) == expected
    assert not [p for p in out.rglob("*") if p.name == ".build" or p.name.startswith(".aside-")]
    assert report["num_written"] == NUM_PHOTOS


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_one_kill_in_the_midst_is_no_harm(
    photos_of_the_law: Path, unharmed: tuple[dict[str, bytes], float], tmp_path: Path, share: float
) -> None:
    expected, seconds = unharmed
    out = tmp_path / "data"
    kill_after(start(photos_of_the_law, out), out / ".build", seconds * share, whole_group=False)
    assert not (out / "dataset.json").exists() or not (out / ".build").exists()
    finish(photos_of_the_law, out)
    assert files_of(out) == expected


def test_a_finished_build_survives_the_next_kill(
    photos_of_the_law: Path, unharmed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    out = tmp_path / "data"
    finish(photos_of_the_law, out)
    process = start(photos_of_the_law, out)
    time.sleep(random.Random(time.time_ns()).uniform(0.2, 2))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_TO_END)
    assert files_of(out) == unharmed[0]
    finish(photos_of_the_law, out)
    assert files_of(out) == unharmed[0]
