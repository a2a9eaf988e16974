"""Verify: a whole dataset has nothing to tell, each kind of loss is named by file and key, and nothing is touched."""

import shutil
from pathlib import Path

import pytest

from pipelines.data.verify import Damage, verify_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table, shards_file
from pipelines.records import Refused, ShardRecord


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A copy of the session's dataset that may be damaged."""
    return open_dataset(str(shutil.copytree(dataset.uri, tmp_path / "copy")))


def flip(path: Path, offset: int) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(bytes(data))


def fullest(dataset: Dataset) -> ShardRecord:
    """The shard with the most samples."""
    return max(dataset.shards, key=lambda shard: shard.num_samples)


def damages(dataset: Dataset) -> list[Damage]:
    """What verify finds."""
    return verify_dataset(dataset.uri)[1]


def test_a_whole_dataset_is_whole(dataset: Dataset) -> None:
    found, nothing = verify_dataset(dataset.uri)
    assert found == dataset
    assert nothing == []


def test_verify_touches_nothing(copy: Dataset) -> None:
    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in [Path(copy.uri), *Path(copy.uri).rglob("*")]}

    before = state()
    damages(copy)
    assert state() == before


def test_a_damaged_picture_is_named_by_file_and_key(copy: Dataset) -> None:
    shard = fullest(copy)
    row = next(r for r in read_table(copy.uri, shard).to_pylist() if r["outcome"] == "written")
    flip(Path(copy.uri) / shard.file, row["members"][0]["offset"] + 7)
    assert [(d.file, d.key) for d in damages(copy)] == [(shard.file, None), (shard.file, row["key"])]


def test_damage_between_members_is_named_by_file(copy: Dataset) -> None:
    shard = fullest(copy)
    flip(Path(copy.uri) / shard.file, shard.size_bytes - 1)
    assert [(d.file, d.key) for d in damages(copy)] == [(shard.file, None)]


def test_a_cut_shard_names_every_key_that_is_lost(copy: Dataset) -> None:
    shard = fullest(copy)
    rows = [r for r in read_table(copy.uri, shard).to_pylist() if r["outcome"] == "written"]
    path = Path(copy.uri) / shard.file
    path.write_bytes(path.read_bytes()[: rows[1]["members"][0]["offset"]])
    assert {d.key for d in damages(copy)} == {None, *(row["key"] for row in rows[1:])}


def test_a_missing_shard_is_named(copy: Dataset) -> None:
    shard = fullest(copy)
    (Path(copy.uri) / shard.file).unlink()
    assert damages(copy) == [Damage(shard.file, None, "missing")]


def test_a_missing_table_is_named(copy: Dataset) -> None:
    shard = fullest(copy)
    (Path(copy.uri) / shard.table).unlink()
    (damage,) = damages(copy)
    assert damage.file == shard.table


def test_a_damaged_table_does_not_hide_a_damaged_shard(copy: Dataset) -> None:
    shard = fullest(copy)
    flip(Path(copy.uri) / shard.table, 40)
    flip(Path(copy.uri) / shard.file, 40)
    assert {d.file for d in damages(copy)} == {shard.table, shard.file}


def test_two_damaged_shards_are_both_named(copy: Dataset) -> None:
    first, *_, last = copy.shards
    for shard in (first, last):
        flip(Path(copy.uri) / shard.file, 100)
    assert {d.file for d in damages(copy)} == {first.file, last.file}


@pytest.mark.parametrize("commit", [True, False])
def test_a_damaged_record_is_named(copy: Dataset, commit: bool) -> None:
    name = COMMIT_FILE if commit else shards_file(copy.commit["shards_sha256"])
    flip(Path(copy.uri) / name, 60)
    found, (damage,) = verify_dataset(copy.uri)
    assert found is None
    assert name in damage.what


def test_a_missing_list_of_shards_is_named(copy: Dataset) -> None:
    name = shards_file(copy.commit["shards_sha256"])
    (Path(copy.uri) / name).unlink()
    found, (damage,) = verify_dataset(copy.uri)
    assert found is None
    assert name in damage.what


def test_without_a_commit_record_there_is_no_dataset(copy: Dataset) -> None:
    (Path(copy.uri) / COMMIT_FILE).unlink()
    with pytest.raises(Refused, match=f"no dataset at {copy.uri}"):
        verify_dataset(copy.uri)
