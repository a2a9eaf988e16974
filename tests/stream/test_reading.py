"""Samples out of shards: exactly the bytes of the source, or damage named by file and key."""

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from infra import storage
from pipelines.manifest import Dataset, open_dataset, read_table
from pipelines.records import CorruptDataError, ShardRecord, UsageError
from pipelines.stream.reading import ShardReader

SPLITS = ("train", "val")


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    """The dataset once more, to be damaged."""
    shutil.copytree(dataset.uri, tmp_path / "data")
    return open_dataset(str(tmp_path / "data"))


def first_sample(dataset: Dataset) -> tuple[int, ShardRecord, dict[str, Any]]:
    """Number, record and first row of the first train shard that is not empty."""
    number, record = next((i, s) for i, s in enumerate(dataset.split("train")) if s.num_samples)
    row = next(r for r in read_table(dataset.uri, record).to_pylist() if r["outcome"] == "written")
    return number, record, row


def flip(path: Path, offset: int) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_every_sample_is_the_bytes_of_its_source(dataset: Dataset, photos: Path) -> None:
    sources = []
    for split in SPLITS:
        reader = ShardReader((dataset,), split)
        for shard, count in enumerate(reader.counts):
            for sample in range(count):
                stored = reader.read(shard, sample)
                assert stored.note["normalised"] == []
                assert stored.picture == (photos / stored.note["source"]).read_bytes()
                sources.append(stored.note["source"])
    assert sorted(sources) == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.*"))


def test_a_sample_says_its_key_and_dataset(dataset: Dataset) -> None:
    reader = ShardReader((dataset,), "train")
    shard, _, row = first_sample(dataset)
    stored = reader.read(shard, 0)
    assert stored.key == stored.note["key"] == row["key"] == reader.key(shard, 0)
    assert stored.dataset == "folder"


def test_shards_count_through_all_datasets(dataset: Dataset) -> None:
    alone, both = ShardReader((dataset,), "train"), ShardReader((dataset, dataset), "train")
    shard, _, _ = first_sample(dataset)
    assert both.counts == alone.counts * 2
    assert both.read(shard + len(alone.counts), 0) == alone.read(shard, 0)


def test_members_lie_where_any_reader_of_tars_finds_them(dataset: Dataset) -> None:
    reader = ShardReader((dataset,), "train")
    shard, record, row = first_sample(dataset)
    with tarfile.open(Path(dataset.uri) / record.file) as tar:
        contents = [stream.read() for m in row["members"] if (stream := tar.extractfile(m["name"])) is not None]
    assert reader.read(shard, 0).picture in contents
    assert len(contents) == 2


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("member", [0, 1])
def test_a_flipped_bit_in_a_sample_is_damage_of_this_file_and_key(copy: Dataset, member: int, where: float) -> None:
    shard, record, row = first_sample(copy)
    place = row["members"][member]
    flip(Path(copy.uri) / record.file, place["offset"] + int(where * (place["size"] - 1)))
    with pytest.raises(CorruptDataError, match="is damaged at member") as fault:
        ShardReader((copy,), "train").read(shard, 0)
    assert record.file in str(fault.value)
    assert row["key"] in str(fault.value)


def test_damage_of_one_sample_leaves_the_others_readable(copy: Dataset, dataset: Dataset) -> None:
    shard, record, row = first_sample(copy)
    flip(Path(copy.uri) / record.file, row["members"][0]["offset"])
    reader, whole = ShardReader((copy,), "train"), ShardReader((dataset,), "train")
    others = [(i, n) for i, count in enumerate(whole.counts) for n in range(count) if (i, n) != (shard, 0)]
    assert all(reader.read(*place) == whole.read(*place) for place in others)


def test_a_cut_shard_is_damage(copy: Dataset) -> None:
    shard, record, row = first_sample(copy)
    os.truncate(Path(copy.uri) / record.file, row["members"][1]["offset"] + 1)
    with pytest.raises(CorruptDataError, match=record.file):
        ShardReader((copy,), "train").read(shard, 0)


def test_a_missing_shard_is_damage(copy: Dataset) -> None:
    shard, record, _ = first_sample(copy)
    (Path(copy.uri) / record.file).unlink()
    with pytest.raises(
        CorruptDataError, match=f"{record.file} is missing: restore the shard or build the dataset again"
    ):
        ShardReader((copy,), "train").read(shard, 0)


def test_a_flipped_bit_in_a_table_is_damage(copy: Dataset) -> None:
    shard, record, _ = first_sample(copy)
    flip(Path(copy.uri) / record.table, 100)
    with pytest.raises(CorruptDataError, match=record.table):
        ShardReader((copy,), "train").read(shard, 0)


def test_a_missing_table_is_damage(copy: Dataset) -> None:
    shard, record, _ = first_sample(copy)
    (Path(copy.uri) / record.table).unlink()
    with pytest.raises(CorruptDataError, match=record.table):
        ShardReader((copy,), "train").read(shard, 0)


def test_a_split_that_is_not_there_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=f"no photos in split 'test' of {dataset.uri}: it has train, val"):
        ShardReader((dataset,), "test")


def remote_copy(dataset: Dataset, uri: str) -> Dataset:
    """The dataset on another file system."""
    for name, _ in storage.list_files(dataset.uri):
        storage.publish(storage.join(uri, name), storage.read_bytes(storage.join(dataset.uri, name)))
    return open_dataset(uri)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty temporary folder; no long waits for what is not there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("infra.retry.WAITS_SECONDS", (0.001,))
    return tmp_path


def test_a_remote_shard_gives_the_same_samples(dataset: Dataset, cache: Path) -> None:
    shard, _, _ = first_sample(dataset)
    remote = remote_copy(dataset, "memory://reading/same")
    assert ShardReader((remote,), "train").read(shard, 0) == ShardReader((dataset,), "train").read(shard, 0)
    assert len(list(cache.rglob("pages/*/*"))) == 1


def test_a_damaged_remote_shard_is_damage(dataset: Dataset, cache: Path) -> None:
    shard, record, row = first_sample(dataset)
    remote = remote_copy(dataset, "memory://reading/damaged")
    data = bytearray(storage.read_bytes(storage.join(remote.uri, record.file)))
    data[row["members"][0]["offset"]] ^= 1
    storage.publish(storage.join(remote.uri, record.file), bytes(data))
    with pytest.raises(CorruptDataError, match=record.file):
        ShardReader((remote,), "train").read(shard, 0)


def test_a_remote_shard_that_was_damaged_is_read_again_once_restored(dataset: Dataset, cache: Path) -> None:
    shard, record, row = first_sample(dataset)
    remote = remote_copy(dataset, "memory://reading/restored")
    whole = storage.read_bytes(uri := storage.join(remote.uri, record.file))
    data = bytearray(whole)
    data[row["members"][0]["offset"]] ^= 1
    storage.publish(uri, bytes(data))
    with pytest.raises(CorruptDataError):
        ShardReader((remote,), "train").read(shard, 0)
    storage.publish(uri, whole)
    assert ShardReader((remote,), "train").read(shard, 0) == ShardReader((dataset,), "train").read(shard, 0)


def test_a_missing_remote_shard_is_damage(dataset: Dataset, cache: Path) -> None:
    shard, record, _ = first_sample(dataset)
    remote = remote_copy(dataset, "memory://reading/missing")
    storage.remove(storage.join(remote.uri, record.file))
    with pytest.raises(CorruptDataError, match=f"{record.file} is missing"):
        ShardReader((remote,), "train").read(shard, 0)
