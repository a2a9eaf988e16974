"""What makes two files one photo: their bytes, or the pixels that come out of them, as the recipe says."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.commit.commit import prune
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.edit import remove_photos
from pipelines.data.dataset.rebuild_manifest import recover_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, read_table
from pipelines.records import UsageError
from tests.making import photo, shard_recipe

pytestmark = pytest.mark.usefixtures("ray_cluster")


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def plan(root: Path, out: Path, **changes: Any) -> Plan:
    """A plan in which nothing is held out."""
    return Plan(str(root), str(out), shard_recipe(holdout=0.0, **changes), 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One picture in five codings, a gray one in two, and another picture."""
    folder = tmp_path / "in"
    folder.mkdir()
    one, gray = photo(1), ImageOps.grayscale(photo(2))
    one.save(folder / "a.png")
    one.save(folder / "b.png", compress_level=1)
    one.save(folder / "c.bmp")
    one.save(folder / "d.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    one.rotate(90, expand=True).save(folder / "e.tiff", exif=exif)
    gray.save(folder / "gray.png")
    gray.convert("RGB").save(folder / "gray_in_rgb.png")
    photo(3).save(folder / "other.png")
    return folder


def outcomes(dataset: Dataset) -> dict[str, str]:
    """What became of each input."""
    rows = [row for shard in dataset.shards for row in read_table(dataset.uri, shard).to_pylist()]
    return {row["source"]: row["reason"] or row["outcome"] for row in rows}


def test_files_of_other_bytes_are_other_photos(root: Path, tmp_path: Path) -> None:
    assert set(outcomes(build_dataset(plan(root, tmp_path / "out"), silent)).values()) == {"written"}


def test_files_of_the_same_pixels_are_one_photo_if_the_recipe_says_so(root: Path, tmp_path: Path) -> None:
    found = outcomes(build_dataset(plan(root, tmp_path / "out", duplicates="pixels"), silent))
    repeats = dict.fromkeys(("b.png", "c.bmp", "d.webp", "e.tiff"), "same pixels as a")
    repeats["gray_in_rgb.png"] = "same pixels as gray"
    assert found == {**dict.fromkeys(("a.png", "gray.png", "other.png"), "written"), **repeats}


def test_a_removed_photo_does_not_come_back_in_another_coding(root: Path, tmp_path: Path) -> None:
    out, late = tmp_path / "out", tmp_path / "late"
    build_dataset(plan(root, out, duplicates="pixels"), silent)
    remove_photos(str(out), ["a"], silent)
    prune(str(out))
    (out / COMMIT_FILE).unlink()
    recovered = recover_dataset(str(out), silent).dataset
    late.mkdir()
    photo(1).save(late / "elsewhere.webp", lossless=True)
    photo(3).save(late / "known.png", compress_level=9)
    added = add_layer(plan(late, out, duplicates="pixels"), silent)
    assert added.commit == recovered.commit, "nothing new came"


def test_files_that_cannot_be_decoded_are_rejected_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(1).save(folder / "a.png")
    for name in ("one.txt", "two.txt"):
        (folder / name).write_text("no picture")
    found = outcomes(build_dataset(plan(folder, tmp_path / "out", duplicates="pixels"), silent))
    assert found["a.png"] == "written"
    assert {reason[:12] for reason in (found["one.txt"], found["two.txt"])} == {"not an image"}


def test_an_unknown_meaning_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown duplicates 'looks': use one of bytes, pixels"):
        build_dataset(plan(root, tmp_path / "out", duplicates="looks"), silent)
