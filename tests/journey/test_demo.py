"""The demo: photos to a promoted model, again in seconds, alone in its folder, and to its end whatever kills it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra.tracking import Tracking
from jobs.demo import FORCED
from pipelines.data.dataset.verify import verify_dataset
from pipelines.registry.promotion import VERDICT_TAG
from tests.making import photo_folder

pytestmark = pytest.mark.slow
NUM_KILLS = int(os.environ.get("LACUNA_SOAK_KILLS", "1"))


def start(root: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.journey.walk", str(root), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr[-3000:]
    report: dict[str, Any] = json.loads(stdout.strip().split("\n")[-1])
    return report


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos"), 60)


@pytest.fixture(scope="module")
def walked(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, finish(start(photos, out))


def test_it_ends_with_scores_a_champion_and_a_picture(walked: tuple[Path, dict[str, Any]]) -> None:
    out, report = walked
    assert report["champion_version"] in {"1", "2"}
    assert set(report["scores"]) == {"telea", "navier-stokes", "first version", "last version"}
    assert report["num_pairs"] == 3 * len(set(_val_keys(out)))
    with Image.open(report["picture"]) as picture:
        assert picture.width > 5 * 64


def test_a_champion_below_the_classical_methods_was_forced_and_says_so(walked: tuple[Path, dict[str, Any]]) -> None:
    out, report = walked
    scores = {name: means["psnr_hole"] for name, means in report["scores"].items()}
    best = max(scores["telea"], scores["navier-stokes"])
    first, last = (scores[f"{name} version"] < best for name in ("first", "last"))
    assert first and last  # 32 photos teach nothing: the test would prove nothing otherwise
    tracking = Tracking(f"sqlite:///{out / 'mlflow.db'}")
    forced = json.loads(tracking.get_version(report["model"], "1").tags[VERDICT_TAG])
    assert (forced["promoted"], forced["forced"]) == (True, FORCED)
    assert forced["reason"].startswith(f"forced: {FORCED} ({scores['first version']:.2f} dB in the hole, ")
    assert report["forced"] == (FORCED if report["champion_version"] == "1" else None)
    other = json.loads(tracking.get_version(report["model"], "2").tags[VERDICT_TAG])
    assert (other["champion"], other["promoted"]) == ("1", report["champion_version"] == "2")
    assert report["verdict"] == other["reason"]


def _val_keys(out: Path) -> list[str]:
    from pipelines.manifest import open_dataset, read_table

    dataset = open_dataset(str(out / "data"))
    return [r["key"] for s in dataset.split("val") for r in read_table(dataset.uri, s).to_pylist()]


def test_again_it_only_tells(walked: tuple[Path, dict[str, Any]], photos: Path) -> None:
    out, report = walked
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    assert finish(start(photos, out)) == report
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_a_second_one_in_the_same_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    first = start(photos, tmp_path / "out")
    while not (tmp_path / "out" / "data").exists():
        time.sleep(0.1)
    second = start(photos, tmp_path / "out")
    assert second.wait(timeout=60) != 0
    assert second.stderr is not None
    assert f"process {first.pid} works in" in second.stderr.read()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_killed_at_any_moment_it_goes_on_to_the_end(
    seed: int, photos: Path, tmp_path: Path, walked: tuple[Path, dict[str, Any]]
) -> None:
    chance, out = random.Random(seed), tmp_path / "out"
    for _ in range(2):
        process = start(photos, out)
        time.sleep(chance.uniform(3, 45))
        process.kill()  # the driver alone: what it has started must end by itself
        process.communicate()
    report = finish(start(photos, out))
    expected = walked[1]
    assert report["scores"] == expected["scores"]
    assert report["champion_version"] == expected["champion_version"]
    assert verify_dataset(str(out / "data"))[1] == []
