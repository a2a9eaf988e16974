"""Inputs that are no photos or do not stay as they are: each is named, and none kills a job or slips into a dataset."""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.scan import MAX_FILE_BYTES, list_source, scan_files
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import COMMIT_FILE, read_table
from pipelines.records import JobError, UsageError
from tests.data.test_hostile import HOSTILE
from tests.making import photo, photo_folder, shard_recipe

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def plan(root: Path, out: Path, **changes: Any) -> Plan:
    """The small recipe, nothing held out."""
    return Plan(str(root), str(out), shard_recipe(holdout=0.0, **changes), 0)


def rows_of(asked: Plan) -> dict[str, dict[str, Any]]:
    """Builds; every row of the dataset by its source."""
    dataset = build_dataset(asked, silent)
    assert verify_dataset(dataset.uri)[1] == []
    rows = [row for shard in dataset.shards for row in read_table(dataset.uri, shard).to_pylist()]
    return {row["source"]: row for row in rows}


def test_hostile_files_get_a_row_each_and_kill_no_job(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 10)
    for number, (raw, _) in enumerate(HOSTILE.values()):
        (root / f"{number:03d}").write_bytes(raw)
    rows = rows_of(plan(root, tmp_path / "out", min_side_px=8, max_reject_share=1.0))
    assert len(rows) == 10 + len(HOSTILE)
    for number, (name, (_, expected)) in enumerate(HOSTILE.items()):
        row = rows[f"{number:03d}"]
        if isinstance(expected, str) and row["outcome"] != "duplicate":
            assert row["outcome"] == "rejected", name
            assert expected in row["reason"], name
        else:
            assert row["outcome"] in ("written", "duplicate"), (name, row["reason"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev and pipes")
def test_what_has_no_end_is_rejected_and_not_waited_for(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 10)
    os.mkfifo(tmp_path / "pipe")
    (root / "pipe.jpg").symlink_to(tmp_path / "pipe")
    (root / "zeros.jpg").symlink_to("/dev/zero")
    (root / "folder.jpg").symlink_to(tmp_path)
    with (root / "huge.jpg").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)  # takes no place on the disk
    rows = rows_of(plan(root, tmp_path / "out"))
    assert {name: row["reason"] for name, row in rows.items() if row["outcome"] == "rejected"} == {
        "pipe.jpg": "cannot be read: NotAFileError",
        "zeros.jpg": "cannot be read: NotAFileError",
        "folder.jpg": "cannot be read: NotAFileError",
        "huge.jpg": f"{MAX_FILE_BYTES + 1} bytes are more than {MAX_FILE_BYTES}",
    }
    assert len(rows) == 14


@pytest.mark.parametrize(("share", "num_borne"), [(0.0, 10), (0.1, 10), (0.5, 40), (0.75, 120)])
def test_rejects_up_to_the_share_are_borne_and_one_more_commits_nothing(
    tmp_path: Path, share: float, num_borne: int
) -> None:
    root = photo_folder(tmp_path / "in", 40)
    for number in range(num_borne):
        (root / f"{number}.txt").write_text(f"text {number}")
    borne = build_dataset(plan(root, tmp_path / "borne", max_reject_share=share), silent)
    assert (borne.commit["ledger"]["num_written"], borne.commit["ledger"]["num_rejected"]) == (40, num_borne)
    for number in range(2):
        (root / f"more{number}.txt").write_text(f"more {number}")
    too_many = plan(root, tmp_path / "out", max_reject_share=share)
    with pytest.raises(UsageError, match=rf"{num_borne + 2} of {num_borne + 42} files .* nothing was committed"):
        build_dataset(too_many, silent)
    assert not (tmp_path / "out" / COMMIT_FILE).exists()


def test_a_photo_that_changes_after_it_was_scanned_stops_the_build_by_name(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 20)
    victim = root / "class0" / "0006.jpg"
    whole = victim.read_bytes()

    def change_it(what: str, done: int, total: int) -> None:
        if (what, done) == ("sharding", 0):
            photo(77).save(victim)

    with pytest.raises(JobError, match=r"class0/0006\.jpg under .* changed during the build: put it back as it was"):
        build_dataset(plan(root, tmp_path / "out"), change_it)
    assert not (tmp_path / "out" / COMMIT_FILE).exists()
    victim.write_bytes(whole)
    build_dataset(plan(root, tmp_path / "out"), silent)
    build_dataset(plan(shutil.copytree(root, tmp_path / "copy"), tmp_path / "undisturbed"), silent)
    assert (tmp_path / "out" / COMMIT_FILE).read_bytes() == (tmp_path / "undisturbed" / COMMIT_FILE).read_bytes()


def test_a_fault_of_the_disk_stops_the_build_instead_of_rejecting_the_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(root: str, path: str) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    own = plan(photo_folder(tmp_path / "in", 3), tmp_path / "out")
    layout = list_source(own)
    monkeypatch.setattr(storage, "read_below", broken)
    with pytest.raises(ConnectionError, match="Input/output error; run the same command again"):
        scan_files(own, layout, 0)
