"""A place that takes no files is said before work, by `lacuna fill` and `lacuna export`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT
from jobs.cli import main
from pipelines.manifest import Dataset
from tests.jobs.fills import photos_and_masks

pytestmark = pytest.mark.thorough


def run_read_only(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command where a folder is read-only: for root by a mount of this process alone."""
    command = [sys.executable, "-m", "jobs.cli", *words]
    if os.geteuid() == 0:
        script = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, str(folder), *command]
        if subprocess.run([*command[:5], str(folder), "true"], check=False, capture_output=True).returncode:
            pytest.skip("no private mounts here, and root may write everywhere else")
    else:
        folder.chmod(0o500)
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


@pytest.mark.parametrize("out", ["o.png", "new/o.png", "new/", ""])
def test_fill_says_so_before_it_opens_a_model(tmp_path: Path, out: str) -> None:
    folder = photos_and_masks(tmp_path, 2)
    (tmp_path / "locked").mkdir()
    image = str(folder / "photos" / "class0" / "000.jpg") if out.endswith(".png") else str(folder / "photos")
    mask = str(folder / "masks" / "class0" / "000_mask.png") if out.endswith(".png") else str(folder / "masks")
    words = ("--image", image, "--mask", mask, "--out", str(tmp_path / "locked" / out), "--model", "nowhere")
    code, report = run_read_only(tmp_path / "locked", "fill", *words)
    assert code == 2
    assert report["error"].endswith(f"{tmp_path}/locked is read-only for this user; give another folder")


def test_export_says_so_before_it_opens_a_model(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    words = ("--model", "nowhere", "--format", "torchscript", "--out", str(tmp_path / "locked" / "m.pt"))
    code, report = run_read_only(tmp_path / "locked", "export", *words)
    assert code == 2
    assert report["error"] == (
        f"cannot write to {tmp_path}/locked: {tmp_path}/locked is read-only for this user; give another folder"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("fill", "--model", "nowhere", "--image", "{photo}", "--hole", "alpha", "--out", "/proc/o.png"),
        ("export", "--model", "nowhere", "--format", "torchscript", "--out", "/proc/m.pt"),
        ("train", "deepgin-demo", "--data", "{data}", "--out", "/proc/run"),
        ("train", "deepgin-demo", "--data", "{data}", "--out", "/proc/run", "--dry-run"),
        ("shard", "--source", "folder", "--root", "{root}", "--out", "/proc"),
        ("evaluate", "--model", "telea", "--data", "{data}", "--out", "/proc/scores"),
    ],
    ids=lambda words: words[0] + words[-1],
)
def test_a_folder_of_the_kernel_is_refused_before_work(
    capfd: pytest.CaptureFixture[str], dataset: Dataset, photos: Path, words: tuple[str, ...]
) -> None:
    given = {"data": dataset.uri, "root": str(photos), "photo": str(next(photos.rglob("*.jpg")))}
    code = main([word.format(**given) for word in words])
    report = json.loads(capfd.readouterr().out)
    assert code == 2, report
    assert report["error"].startswith("cannot write to /proc")
    assert "/proc takes no files (" in report["error"]
