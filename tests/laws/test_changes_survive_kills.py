"""Law 6: `--add`, `--remove` and `--compact` that are killed anywhere lose nothing, and end the same when run again.

LACUNA_SOAK_KILLS says how many kills are tried; an eighth of them falls on each of the three.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from pipelines.data.commit.commit import prune
from pipelines.manifest import COMMIT_FILE, open_dataset, read_table
from tests.laws.killing import (
    OPTIONS,
    Lacuna,
    TwoNodes,
    end,
    finish,
    kill_driver,
    kill_group,
    start,
    wait_until,
)
from tests.making import files_of

pytestmark = pytest.mark.slow

NUM_KILLS = max(1, int(os.environ.get("LACUNA_SOAK_KILLS", "4")) // 8)
NUM_REMOVED = 40


@pytest.fixture(scope="module")
def late(photos_of_the_law: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The early three quarters of the photos, and the late quarter."""
    folder = tmp_path_factory.mktemp("early-and-late")
    for path in sorted(photos_of_the_law.rglob("*.*")):
        target = folder / ("late" if int(path.stem) % 4 == 3 else "early") / path.relative_to(photos_of_the_law)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder / "early", folder / "late"


@pytest.fixture(scope="module")
def before(late: tuple[Path, Path], nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each change begins with: a dataset in one layer, and in two."""
    one = tmp_path_factory.mktemp("before") / "one"
    finish(*OPTIONS, "--root", str(late[0]), "--out", str(one), cluster=nodes.address)
    two = shutil.copytree(one, one.with_name("two"))
    finish("--out", str(two), "--add", str(late[1]), cluster=nodes.address)
    return {"--add": one, "--remove": two, "--compact": two}


def words(change: str, late: Path, dataset: Path, out: Path) -> list[str]:
    """The options of a change, `--remove` with a sample of all keys."""
    if change != "--remove":
        return ["--out", str(out), *((change, str(late)) if change == "--add" else (change,))]
    shards = open_dataset(str(dataset)).shards
    keys = [row["key"] for s in shards for row in read_table(str(dataset), s).to_pylist() if row["members"]]
    return ["--out", str(out), change, *random.Random(0).sample(keys, NUM_REMOVED)]


def wait_for_change(process: Lacuna, out: Path, old: dict[str, bytes]) -> None:
    """Waits until the process has written something, or has ended."""
    wait_until(lambda: process.poll() is not None or (out / ".build").exists() or files_of(out) != old)


@pytest.mark.parametrize("change", ["--add", "--remove", "--compact"])
def test_a_change_that_is_killed_loses_nothing_and_is_done_when_it_is_run_again(
    before: dict[str, Path], late: tuple[Path, Path], nodes: TwoNodes, tmp_path: Path, change: str
) -> None:
    dataset, rng = before[change], random.Random(time.time_ns())
    old = files_of(dataset)
    expected, seconds = run_undisturbed(words(change, late[1], dataset, tmp_path / "whole"), dataset, nodes)
    for turn in range(NUM_KILLS):
        out = shutil.copytree(dataset, tmp_path / f"killed-{turn}")
        process = start(*words(change, late[1], dataset, out), cluster=nodes.address)
        wait_for_change(process, out, old)
        time.sleep(rng.uniform(0, seconds))
        rng.choice((kill_driver, kill_group))(process)
        process.communicate()
        left = files_of(out)
        assert left[COMMIT_FILE] in (old[COMMIT_FILE], expected[COMMIT_FILE])
        finish(*words(change, late[1], dataset, out), cluster=nodes.address)
        for files in (left, files_of(out)):
            assert all(files.get(name) == data for name, data in old.items() if name != COMMIT_FILE)
        assert not (out / ".build").exists()
        prune(str(out))
        assert files_of(out) == expected


def run_undisturbed(change: list[str], dataset: Path, nodes: TwoNodes) -> tuple[dict[str, bytes], float]:
    """The files, pruned, after a change that nobody disturbed, and its seconds from the first that it wrote."""
    out = Path(shutil.copytree(dataset, change[1]))
    process = start(*change, cluster=nodes.address)
    wait_for_change(process, out, files_of(dataset))
    begun = time.monotonic()
    code, report = end(process)
    assert code == 0, report
    seconds = time.monotonic() - begun
    prune(str(out))
    return files_of(out), seconds
