"""Verify: a whole dataset has nothing to tell, each kind of loss is named by file and key, and nothing is touched."""

import shutil
from pathlib import Path

import pytest

from pipelines.data.dataset.edit import remove_photos
from pipelines.data.dataset.verify import Damage, verify_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table, name_shards_file, name_successor
from pipelines.records import ShardRecord, UsageError


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


def keys_of(dataset: Dataset, shard: ShardRecord) -> list[str]:
    """The keys of the samples in a shard."""
    return [row["key"] for row in read_table(dataset.uri, shard).to_pylist() if row["outcome"] == "written"]


@pytest.mark.parametrize("in_its_place", [None, "a folder"])
def test_a_missing_shard_is_named_with_its_keys(copy: Dataset, in_its_place: str | None) -> None:
    shard = fullest(copy)
    (Path(copy.uri) / shard.file).unlink()
    if in_its_place:
        (Path(copy.uri) / shard.file).mkdir()
    first, *others = damages(copy)
    what = "cannot be read: Is a directory" if in_its_place else "missing"
    assert first == Damage(shard.file, None, what)
    assert {(d.file, d.key) for d in others} == {(shard.file, key) for key in keys_of(copy, shard)}


@pytest.mark.parametrize("part", ["header", "padding"])
def test_damage_around_a_member_is_named_by_its_key(copy: Dataset, part: str) -> None:
    shard = fullest(copy)
    row = next(r for r in read_table(copy.uri, shard).to_pylist() if r["outcome"] == "written")
    member = row["members"][0]
    assert member["size"] % 512
    flip(Path(copy.uri) / shard.file, member["offset"] + (-300 if part == "header" else member["size"]))
    named = {d.key: d.what for d in damages(copy)}
    assert named.keys() == {None, row["key"]}
    assert named[row["key"]] == f"{part} of member {member['name']} differs"


def test_a_damaged_record_does_not_hide_damaged_shards_and_tables(copy: Dataset) -> None:
    first, *_, last = copy.shards
    flip(Path(copy.uri) / COMMIT_FILE, 60)
    flip(Path(copy.uri) / last.table, 60)
    row = read_table(copy.uri, first).to_pylist()[0]
    flip(Path(copy.uri) / first.file, row["members"][0]["offset"])
    found = {(d.file, d.key) for d in damages(copy)}
    assert found == {(COMMIT_FILE, None), (last.table, None), (first.file, None), (first.file, row["key"])}


def test_a_record_that_a_change_left_is_checked_too(copy: Dataset, ray_cluster: None) -> None:
    remove_photos(copy.uri, keys_of(copy, fullest(copy))[:1], lambda *_: None)
    assert damages(copy) == []
    flip(Path(copy.uri) / name_successor(copy.commit), 60)
    assert [(d.file, d.key) for d in damages(copy)] == [(name_successor(copy.commit), None)]


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
    name = COMMIT_FILE if commit else name_shards_file(copy.commit["shards_sha256"])
    flip(Path(copy.uri) / name, 60)
    found, (damage,) = verify_dataset(copy.uri)
    assert found is None
    assert name in damage.what


def test_a_missing_list_of_shards_is_named(copy: Dataset) -> None:
    name = name_shards_file(copy.commit["shards_sha256"])
    (Path(copy.uri) / name).unlink()
    found, (damage,) = verify_dataset(copy.uri)
    assert found is None
    assert name in damage.what


def test_without_a_commit_record_there_is_no_dataset(copy: Dataset) -> None:
    (Path(copy.uri) / COMMIT_FILE).unlink()
    with pytest.raises(UsageError, match=f"no dataset at {copy.uri}"):
        verify_dataset(copy.uri)
