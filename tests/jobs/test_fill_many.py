"""`lacuna fill` on many photos: pairs by name, a table and totals, and going on where it was stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from infra import storage
from infra.settings import PROJECT_ROOT
from pipelines.records import UsageError
from pipelines.training.run import TrainRun
from tests.jobs.fills import HEIGHT, WIDTH, fill, hole_mask, photos_and_masks, pixels, refusal
from tests.making import files_of, photo
from tests.s3 import bucket

pytestmark = pytest.mark.thorough


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos with masks."""
    return photos_and_masks(tmp_path, 6)


def test_every_photo_of_a_folder_is_filled_and_known_pixels_stay(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = fill(folder)
    assert {name: report[f"num_{name}"] for name in ("photos", "filled", "skipped", "refused")} == {
        "photos": 6,
        "filled": 6,
        "skipped": 0,
        "refused": 0,
    }
    rows = re.findall(r"^(class\d/\d+) +filled +42x30 +\d+\.\d+%$", capfd.readouterr().err, re.MULTILINE)
    assert len(rows) == 6
    for path in (folder / "photos").rglob("*.*"):
        name = path.relative_to(folder / "photos").with_suffix("")
        hole = pixels(folder / "masks" / f"{name}_mask.png")[..., 0] > 0
        filled, image = pixels(folder / "out" / f"{name}.png"), pixels(path)
        assert np.array_equal(filled[~hole], image[~hole])
        assert not np.array_equal(filled, image)


def test_a_second_run_skips_what_is_done_and_fills_what_is_gone_or_changed(folder: Path) -> None:
    fill(folder)
    before = files_of(folder / "out")
    assert fill(folder)["num_skipped"] == 6
    (folder / "out" / "class0" / "000.png").unlink()
    assert (fill(folder)["num_filled"], files_of(folder / "out") == before) == (1, True)
    hole_mask(12, 20).save(folder / "masks" / "class1" / "001_mask.png")
    assert fill(folder)["num_filled"] == 1
    changed = {name for name, data in files_of(folder / "out").items() if before[name] != data}
    assert changed == {"class1/001.png", ".lacuna/photos/class1/001.json"}


@given(st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_lost_of_the_results_comes_back_the_same(folder: Path, data: st.DataObject) -> None:
    fill(folder)
    before = files_of(folder / "out")
    lost = data.draw(st.sets(st.sampled_from(sorted(set(before) - {".lacuna/fill.json"}))))
    for name in lost:
        (folder / "out" / name).unlink()
    photos = {name.removeprefix(".lacuna/photos/").rpartition(".")[0] for name in lost}
    assert fill(folder)["num_filled"] == len(photos)
    assert files_of(folder / "out") == before


def test_a_photo_whose_mask_changed_is_filled_again_though_its_record_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    hole_mask(12, 20).save(folder / "masks" / "class1" / "001_mask.png")
    publish = storage.publish

    def die_at_records(uri: str, data: bytes) -> None:
        if uri.endswith(".json"):
            raise KeyboardInterrupt
        publish(uri, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "publish", die_at_records)
        fill(folder)
    assert fill(folder)["num_filled"] == 1
    fill(folder, out="undisturbed")
    assert files_of(folder / "out") == files_of(folder / "undisturbed")


def test_a_result_that_somebody_changed_is_not_overwritten(folder: Path) -> None:
    fill(folder)
    retouched = folder / "out" / "class0" / "002.png"
    photo(9, HEIGHT, WIDTH).save(retouched)
    data = retouched.read_bytes()
    report, words = refusal(folder)
    assert words == "1 of 6 photos were refused: see the table"
    assert "002.png was changed since it was filled: remove it or move it" in report["refused"][0]["reason"]
    assert retouched.read_bytes() == data


def test_a_damaged_record_is_noticed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill(folder)
    before = files_of(folder / "out")
    record = folder / "out" / ".lacuna" / "photos" / "class0" / "000.json"
    record.write_bytes(record.read_bytes().replace(b"results", b"resultz"))
    assert fill(folder)["num_filled"] == 1
    assert "filled again: its record is damaged" in capfd.readouterr().err
    assert files_of(folder / "out") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "navier-stokes"}, r"model\.model = 'telea', this run has 'navier-stokes'"),
        ({"grow": 2}, r"hole\.grow_px = 0, this run has 2"),
        ({"format": "webp"}, r"encoding\.format = 'png', this run has 'webp'"),
        ({"keep": ("exif",)}, r"keep = \['icc'\], this run has \['exif'\]"),
        ({"size": 20}, r"size_px = None, this run has 20"),
    ],
)
def test_other_settings_at_the_same_place_are_refused_with_the_field(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    fill(folder)
    before = files_of(folder / "out")
    with pytest.raises(UsageError, match=words + ": name another --out"):
        fill(folder, **changes)
    assert files_of(folder / "out") == before


def test_another_procedure_or_checkpoint_at_the_same_place_is_refused(folder: Path, trained: TrainRun) -> None:
    fill(folder, model=trained.out)
    assert fill(folder, model=f"{trained.out}/checkpoints/{32:012d}")["num_skipped"] == 6  # the same weights
    with pytest.raises(UsageError, match=r"procedure = 'local', this run has 'polyphase'"):
        fill(folder, model=trained.out, procedure="polyphase")
    with pytest.raises(UsageError, match=r"model\.weights_sha256 = "):
        fill(folder, model=f"{trained.out}/checkpoints/{24:012d}")


def test_refused_photos_do_not_stop_the_others(folder: Path) -> None:
    (folder / "photos" / "class0" / "000.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(folder / "masks" / "class1" / "001_mask.png")
    hole_mask(width=WIDTH + 1).save(folder / "masks" / "class0" / "002_mask.png")
    report, words = refusal(folder)
    assert words == "3 of 6 photos were refused: see the table"
    assert (report["model"], report["num_filled"], report["num_refused"]) == ("telea", 3, 3)
    reasons = [refused["reason"] for refused in report["refused"]]
    assert "cannot be filled: not an image of a known format" in reasons[0]
    assert "is 43x30, the photo is 42x30: give a picture of the photo" in reasons[1]
    assert "is empty: no pixel is white" in reasons[2]
    written = {name for name in files_of(folder / "out") if name.endswith(".png")}
    assert written == {"class0/004.png", "class1/003.png", "class1/005.png"}
    photo(0, HEIGHT, WIDTH).save(folder / "photos" / "class0" / "000.jpg")
    hole_mask().save(folder / "masks" / "class1" / "001_mask.png")
    hole_mask().save(folder / "masks" / "class0" / "002_mask.png")
    report = fill(folder)
    assert (report["num_filled"], report["num_skipped"]) == (3, 3)


def test_a_name_that_cannot_be_read_or_written_does_not_stop_the_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "out" / "class0" / "000.png").mkdir(parents=True)  # a folder in the place of a result
    (folder / "photos" / "loop.png").symlink_to("loop.png")
    (folder / "photos" / "gone.png").symlink_to("nowhere.png")
    longest = "x" * 251  # a name for a photo, too long for its record
    (folder / "photos" / "class1" / "001.png").rename(folder / "photos" / f"{longest}.png")
    (folder / "photos" / "class1" / "003.jpg").rename(folder / "photos" / "line\n\x1b[31m.jpg")
    report, _ = refusal(folder, mask=str(folder / "masks" / "class1" / "001_mask.png"))
    assert (report["num_filled"], report["num_refused"]) == (4, 4)
    reasons = "\n".join(row["reason"] for row in report["refused"])
    for words in (
        "000.png is a folder: give a file to write to",
        "Too many levels of symbolic links: /",
        "No such file or directory: /",
    ):
        assert words in reasons
    assert re.search(r"File name too long: /\S+x\.json", reasons)
    assert not (folder / "out" / f"{longest}.png").exists()
    assert "\nline\\n\\x1b[31m" in capfd.readouterr().err


def test_what_stands_in_the_place_of_a_result_stays(folder: Path) -> None:
    fill(folder)
    moved, piped = folder / "out" / "class0" / "000.png", folder / "out" / "class1" / "001.png"
    moved.rename(folder / "kept.png")
    moved.mkdir()
    (folder / "kept.png").rename(moved / "kept.png")
    piped.unlink()
    os.mkfifo(piped)
    report, _ = refusal(folder)
    assert (report["num_skipped"], report["num_refused"]) == (4, 2)
    assert (moved / "kept.png").is_file()
    assert piped.is_fifo()


def test_the_command_ends_with_1_where_a_photo_was_refused(folder: Path) -> None:
    (folder / "photos" / "class0" / "000.jpg").write_bytes(b"")
    words = ["fill", "--model", "telea", "--image", "photos", "--mask", "masks", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words], cwd=folder, env=environment, capture_output=True, check=False
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["num_filled"], report["num_refused"]) == (1, 5, 1)
    assert re.search(rb"^class0/000 +refused +/\S+000\.jpg cannot be filled: empty file$", done.stderr, re.MULTILINE)


def test_one_mask_for_all_and_patterns(folder: Path) -> None:
    hole_mask().save(folder / "hole.png")
    report = fill(folder, image=str(folder / "photos" / "*" / "*.png"), mask=str(folder / "hole.png"))
    assert report["num_filled"] == 4
    names = {name for name in files_of(folder / "out") if not name.startswith(".lacuna")}
    assert names == {"class1/001.png", "class0/002.png", "class0/004.png", "class1/005.png"}


@pytest.mark.parametrize(("form", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_results_have_the_format_that_is_asked_for(folder: Path, form: Any, suffix: str) -> None:
    report = fill(folder, format=form)
    assert report["format"] == form
    with Image.open(folder / "out" / "class0" / f"000.{suffix}") as picture:
        assert picture.format == form.upper()


def kill_when(process: "subprocess.Popen[bytes]", results: Path, count: int) -> None:
    """SIGKILL as soon as so many results are there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if sum(1 for _ in results.rglob("*.png")) >= count:
            break
        time.sleep(0.001)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_forty_photos_killed_half_way_and_run_again_are_as_undisturbed(tmp_path: Path) -> None:
    photos_and_masks(tmp_path, 40, 300, 400)
    words = ["fill", "--model", "telea", "--image", f"{tmp_path}/photos", "--mask", f"{tmp_path}/masks", "--grow", "30"]
    fill(tmp_path, out="undisturbed", grow=30)
    for count in (5, 25):
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *words, "--out", f"{tmp_path}/out"],
            cwd=PROJECT_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kill_when(process, tmp_path / "out", count)
        assert process.returncode == -signal.SIGKILL
        assert count <= len(list((tmp_path / "out").rglob("*.png"))) < 40
    # What a process leaves that dies while it writes: a part of a file aside, and a result without its record.
    (tmp_path / "out" / "class0" / f"{storage.ASIDE}0123").write_bytes(b"half")
    (tmp_path / "out" / "class1").mkdir(exist_ok=True)
    shutil.copy(tmp_path / "undisturbed" / "class1" / "039.png", tmp_path / "out" / "class1")
    report = fill(tmp_path, grow=30)
    assert report["num_skipped"] >= 24
    assert report["num_filled"] + report["num_skipped"] == 40
    assert files_of(tmp_path / "out") == files_of(tmp_path / "undisturbed")


def test_a_store_is_as_good_as_a_disk(folder: Path) -> None:
    local = fill(folder)
    memory = fsspec.filesystem("memory")
    for part in ("photos", "masks"):
        for path in (folder / part).rglob("*.*"):
            memory.pipe_file(f"/fill/{path.relative_to(folder)}", path.read_bytes())
    report = fill(folder, image="memory://fill/photos", mask="memory://fill/masks/**/*.png", out=str(folder / "again"))
    assert report["num_filled"] == local["num_filled"]
    assert files_of(folder / "again") == files_of(folder / "out")


@pytest.mark.slow
def test_photos_masks_and_results_may_lie_on_s3(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fill(folder)
    with bucket(tmp_path_factory.mktemp("s3"), "fills") as uri:
        for part in ("photos", "masks"):
            for path in (folder / part).rglob("*.*"):
                storage.publish(f"{uri}/{path.relative_to(folder)}", path.read_bytes())
        words = {"image": f"{uri}/photos", "mask": f"{uri}/masks/**/*.png", "out": f"{uri}/out"}
        assert fill(folder, **words)["num_filled"] == 6
        storage.remove(f"{uri}/out/class1/001.png")
        again = fill(folder, **words)
        assert (again["num_filled"], again["num_skipped"]) == (1, 5)
        there = {name: storage.read_bytes(f"{uri}/out/{name}") for name, _ in storage.list_files(f"{uri}/out")}
        assert there == files_of(folder / "out")
        with pytest.raises(UsageError, match="so results would be inputs of the next run"):
            fill(folder, **{**words, "out": f"{uri}/photos/out"})
        one = fill(folder, image=f"{uri}/photos/class1/*.png", mask=f"{uri}/masks/class1", out=f"{uri}/flat")
        assert one["num_filled"] == 2
