"""`lacuna fill` on many photos: pairs and places that are refused before any work."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.fill import Arguments, run
from pipelines.records import UsageError
from tests.jobs.fills import fill, hole_mask, photos_and_masks, refusal
from tests.making import files_of, photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos with masks."""
    return photos_and_masks(tmp_path, 6)


def nothing_is_written(folder: Path) -> bool:
    return not (folder / "out").exists()


def test_pairs_that_lack_a_mask_are_named_before_any_work(folder: Path) -> None:
    (folder / "masks" / "class0" / "002_mask.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 6 photos have no file for --mask: \S+class0/002\.png; name it as its"):
        fill(folder)
    assert nothing_is_written(folder)


def test_results_inside_the_inputs_are_refused(folder: Path) -> None:
    before = files_of(folder)
    for out in ("photos", "photos/filled", "masks/filled"):
        with pytest.raises(UsageError, match="so results would be inputs of the next run"):
            fill(folder, out=out)
    with pytest.raises(UsageError, match="so results would be inputs of the next run"):
        fill(folder, image=str(folder / "photos" / "*" / "*.png"), out="photos")
    assert files_of(folder) == before


def test_a_result_in_the_place_of_a_mask_is_refused(folder: Path) -> None:
    (folder / "out").mkdir()
    hole_mask().save(folder / "out" / "003.png")
    with pytest.raises(UsageError, match=r"--out \S+out: 003\.png is one of the inputs there"):
        fill(folder, image=str(folder / "photos" / "class1" / "003.*"), mask=str(folder / "out" / "003.png"))


def test_files_of_others_are_not_overwritten(folder: Path) -> None:
    (folder / "out" / "class0").mkdir(parents=True)
    photo(5).save(folder / "out" / "class0" / "004.png")
    before = files_of(folder / "out")
    with pytest.raises(UsageError, match=r"004\.png is there and was not written by fill: name another --out"):
        fill(folder)
    assert files_of(folder / "out") == before


@pytest.mark.parametrize("record", ["never was", "damaged"])
def test_a_file_without_a_record_is_not_overwritten_in_a_folder_that_holds_fills(folder: Path, record: str) -> None:
    place, noted = folder / "out" / "class0" / "004.png", folder / "out" / ".lacuna" / "photos" / "class0" / "004.json"
    photos = folder / "photos" / "class0"
    shutil.move(photos / "004.png", folder / "later.png")
    fill(folder)
    shutil.move(folder / "later.png", photos / "004.png")
    if record == "damaged":
        fill(folder)
        noted.write_bytes(b"{}")
    photo(5).save(place)
    data = place.read_bytes()
    report, _ = refusal(folder)
    assert "004.png is there without a record and differs from this fill" in report["refused"][0]["reason"]
    assert (report["num_skipped"], place.read_bytes() == data) == (5, True)


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "out").write_text("a file")
    with pytest.raises(ValueError, match=r"cannot be a folder: \S+ is a file"):
        fill(folder)


def test_one_photo_goes_to_a_folder_where_out_names_one(folder: Path) -> None:
    one: dict[str, Any] = {
        "image": str(folder / "photos" / "class0" / "000.jpg"),
        "mask": str(folder / "masks" / "class0"),
    }
    assert run(Arguments("telea", out=f"{folder}/out/", **one))["num_filled"] == 1
    assert (folder / "out" / "000.png").exists()
    assert fill(folder, out="out", **one)["num_skipped"] == 1


@pytest.mark.parametrize("photos", ["photos", "photos/class0/00?.*"])
def test_many_photos_do_not_go_to_what_is_called_as_a_file(folder: Path, photos: str) -> None:
    given = {"image": str(folder / photos), "mask": str(folder / "masks" / "class0" / "000_mask.png")}
    with pytest.raises(
        UsageError, match=r"--out is .*all\.PNG, a file, and --image names many photos: name a folder, such"
    ):
        fill(folder, out="all.PNG", **given)
    assert not (folder / "all.PNG").exists()
    (folder / "all.PNG").mkdir()
    assert fill(folder, out="all.PNG", **given)["num_filled"] > 1
