"""What a build does not bear, and what it leaves behind when it is refused, stopped or killed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset
from pipelines.records import JobError, UsageError
from tests.data.building import MANY, build_folder, rows_by_source, save, silent
from tests.making import files_of, photo, photo_folder, shard_recipe

pytestmark = pytest.mark.usefixtures("ray_cluster")


def mostly_text(root: Path, photos: int, texts: int) -> Path:
    """A folder of some photos and some files that are none."""
    photo_folder(root, photos).mkdir(exist_ok=True)
    for number in range(texts):
        (root / f"{number}.txt").write_text(f"text {number}")
    return root


def test_ten_rejected_files_are_borne_and_eleven_stop_the_build(tmp_path: Path) -> None:
    dataset = build_folder(mostly_text(tmp_path / "ten", 20, 10), tmp_path / "out10")
    assert dataset.commit["ledger"]["num_rejected"] == 10
    with pytest.raises(UsageError, match=r"11 of 31 files .* nothing was committed. Most often: not an image"):
        build_folder(mostly_text(tmp_path / "eleven", 20, 11), tmp_path / "out11")
    assert not (tmp_path / "out11" / COMMIT_FILE).exists()
    with pytest.raises(UsageError, match="no dataset at"):
        open_dataset(str(tmp_path / "out11"))


def test_a_stopped_build_still_says_which_files_it_rejected(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with pytest.raises(UsageError, match="were rejected"):
        build_folder(mostly_text(tmp_path / "in", 2, 11), tmp_path / "out")
    rows = [row for path in (tmp_path / "out/tables").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {r["source"] for r in rows if r["outcome"] == "rejected"} == {f"{n}.txt" for n in range(11)}


def test_an_unfinished_build_is_not_mixed_with_another(many: Path, tmp_path: Path) -> None:
    root = shutil.copytree(many, tmp_path / "in")
    plan = Plan(str(root), str(tmp_path / "out"), shard_recipe(**MANY), 0)
    scan_files(plan, list_source(plan), 0)
    (root / "class0/0002.jpg").unlink()
    with pytest.raises(UsageError, match=r"40 files, .* 39 files, .*; first class0/0002\.jpg"):
        build_dataset(plan, silent)
    other = photo_folder(tmp_path / "other", 38)
    with pytest.raises(UsageError, match=r"40 files, .* 38 files, .*; first class0/alpha\.png\).*another --out"):
        build_folder(other, tmp_path / "out", **MANY)
    with pytest.raises(UsageError, match=r"seed = 0, not 1"):
        build_folder(root, tmp_path / "out", seed=1, **MANY)
    shutil.copy(many / "class0/0002.jpg", root / "class0/0002.jpg")
    assert build_dataset(plan, silent).commit["ledger"]["num_written"] == 40


def test_a_folder_without_one_photo_is_not_committed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"3 of 3 files .* were rejected, 0 written"):
        build_folder(mostly_text(tmp_path / "in", 0, 3), tmp_path / "out")
    assert not (tmp_path / "out" / COMMIT_FILE).exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in" / "nothing").mkdir(parents=True)
    with pytest.raises(UsageError, match=f"no files under {tmp_path}/in: --root must be"):
        build_folder(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no folder or archive at .*/none"),
        ({"source": "imagenet"}, "unknown source 'imagenet': use one of .*celeba, .*folder, .*packages"),
        ({"masks": ("rectangle", "heart")}, "unknown mask family 'heart': use one of rectangle"),
        ({"holdout": 1.0}, r"holdout is 1\.0"),
        ({"holdout": -0.1}, r"holdout is -0\.1"),
        ({"holdout": float("nan")}, "holdout is nan"),
        ({"shard_bytes": 0}, "shard_bytes"),
        ({"mask_size_px": 0}, "mask_size_px"),
        ({"mask_canvas_px": -1}, "mask_canvas_px"),
        ({"masks_per_family": -1}, "masks_per_family"),
        ({"resize": "short-side", "size_px": 0}, "size_px is 0"),
        ({"encode": "gif"}, "unknown encode 'gif': use one of png, jpeg"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    root = tmp_path / "none" if not changes else photo_folder(tmp_path / "in", 2)
    with pytest.raises(UsageError, match=message):
        build_dataset(
            Plan(str(root), str(tmp_path / "out"), DatasetConfig(**{"source": "folder", **changes}), 0), silent
        )
    assert not (tmp_path / "out").exists()


def test_what_a_killed_process_left_behind_is_cleared_away(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    for folder in ("train", "tables", ".build/new/records", ".build/new/scratch/.aside-killed"):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / ".aside-0123456789ab").write_bytes(b"half of a file")
    build_folder(many, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == files_of(Path(many_dataset.uri))


def test_a_dataset_inside_its_own_source_is_refused_or_no_input(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 6)
    try:
        first = build_folder(root, root / "data")
    except UsageError:
        return
    again = build_folder(root, root / "data2")
    assert [d.commit["ledger"]["num_inputs"] for d in (first, again)] == [6, 6]


def test_files_of_others_in_the_folder_stay(many: Path, tmp_path: Path) -> None:
    neighbor = build_folder(photo_folder(tmp_path / "few", 6), tmp_path / "out" / "neighbor")
    (tmp_path / "out/archive.tar").write_bytes(b"somebody's")
    (tmp_path / "out/figures.parquet").write_bytes(b"somebody's")
    build_folder(many, tmp_path / "out", **MANY)
    assert (tmp_path / "out/archive.tar").exists()
    assert (tmp_path / "out/figures.parquet").exists()
    assert verify_dataset(neighbor.uri)[1] == []


def test_relative_paths_are_those_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "relative-in", 6)
    monkeypatch.chdir(tmp_path)
    dataset = build_folder(Path("relative-in"), Path("relative-out"))
    assert dataset.commit["ledger"]["num_written"] == 6
    assert (tmp_path / "relative-out" / COMMIT_FILE).exists()


def test_a_workspace_that_outlived_its_commit_is_cleared_away(many: Path, tmp_path: Path) -> None:
    build_folder(many, tmp_path / "out", **MANY)
    before = files_of(tmp_path / "out")
    (tmp_path / "out/.build/new/records").mkdir(parents=True)
    (tmp_path / "out/.build/new/records/train-000000.json").write_text("{}")
    build_folder(many, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == before
    assert not (tmp_path / "out/.build").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda path: photo(999).save(path), UsageError),  # seen by its size, before any work
        (lambda path: path.unlink(), UsageError),
        (lambda path: path.write_bytes(path.read_bytes()[:-3] + b"abc"), JobError),  # seen when it is read again
    ],
)
def test_a_photo_that_changes_during_a_build_stops_it_until_it_is_back(
    many: Path, tmp_path: Path, change: Callable[[Path], None], fault: type[Exception]
) -> None:
    root = shutil.copytree(many, tmp_path / "in")
    plan = Plan(str(root), str(tmp_path / "out"), shard_recipe(**MANY), 0)
    layout = list_source(plan)
    scan_files(plan, layout, 0)
    change(root / "class0/0002.jpg")
    with pytest.raises(fault, match=r"class0/0002\.jpg"):
        build_dataset(plan, silent)
    assert not (tmp_path / "out" / COMMIT_FILE).exists()
    shutil.copy(many / "class0/0002.jpg", root / "class0/0002.jpg")
    assert build_dataset(plan, silent).commit["ledger"]["num_written"] == 40


def test_celeba_keeps_its_splits_and_rejects_what_is_not_listed(tmp_path: Path) -> None:
    for number in range(1, 13):
        save(photo(number), tmp_path / "in" / "img_align_celeba" / f"{number:06d}.jpg")
    lines = [f"{number:06d}.jpg {number % 3}" for number in range(1, 12)]
    (tmp_path / "in" / "list_eval_partition.txt").write_text("\n".join([*lines, "202599.jpg 0", ""]))
    dataset = build_folder(tmp_path / "in", tmp_path / "out", source="celeba", holdout=0.0)
    rows = rows_by_source(dataset)
    unlisted = rows.pop("img_align_celeba/000012.jpg")
    assert unlisted["reason"] == "list_eval_partition.txt does not name it"
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    for source, row in rows.items():
        assert row["split"] == ("train", "val", "test")[int(Path(source).stem) % 3]
        assert bool(row["masks"]) == (row["split"] != "train")
