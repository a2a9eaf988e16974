"""The manifest: rows that survive their file, no dataset uncommitted."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import storage
from infra.settings import PROJECT_ROOT
from pipelines.checked_files import seal, table_bytes, unseal
from pipelines.manifest import (
    COMMIT_FILE,
    FORMAT,
    TABLE_SCHEMA,
    Dataset,
    hash_manifest,
    name_shards_file,
    name_successor,
    open_dataset,
    read_table,
    shards_from_parquet,
    shards_to_parquet,
)
from pipelines.records import CorruptDataError, ShardRecord, UsageError, sha256_hex

DIGESTS = st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}")
RECORDS = st.builds(
    ShardRecord,
    split=st.sampled_from(["train", "val", "test"]),
    number=st.integers(0, 2**40),
    file=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    num_samples=st.integers(0, 2**40),
    size_bytes=st.integers(0, 2**60),
    sha256=DIGESTS,
    table=st.just("tables/x.parquet"),
    table_sha256=DIGESTS,
    num_duplicates=st.integers(0, 2**40),
    num_rejected=st.integers(0, 2**40),
)
RECIPE: dict[str, Any] = {"source": "folder", "holdout": 0.25}


def record(number: int, split: str = "train", num_samples: int = 3) -> ShardRecord:
    """A shard whose digests encode its number."""
    digest = f"{number:064x}"
    return ShardRecord(split, number, f"{split}/{number}.tar", num_samples, 9, digest, "t", digest, 0, 0)


@given(st.lists(RECORDS, max_size=6))
def test_shard_rows_survive_their_file(records: list[ShardRecord]) -> None:
    assert shards_from_parquet(shards_to_parquet(tuple(records))) == tuple(records)


@given(st.lists(RECORDS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_shards(records: list[ShardRecord], random: Any) -> None:
    shuffled = random.sample(records, len(records))
    assert hash_manifest(RECIPE, 0, tuple(shuffled)) == hash_manifest(RECIPE, 0, tuple(records))


def test_the_digest_is_the_one_of_the_design() -> None:
    recipe = '{"holdout":0.25,"source":"folder"}'
    lines = [f"train 0 {0:064x}", f"train 1 {1:064x}"]
    shards = (record(1), record(0))
    assert hash_manifest(RECIPE, 7, shards) == sha256_hex("\n".join([recipe, "7", *lines]).encode())


def test_the_digest_changes_with_whatever_it_is_of() -> None:
    shards = (record(0), record(1))
    digests = [
        hash_manifest(RECIPE, 0, shards),
        hash_manifest({**RECIPE, "holdout": 0.5}, 0, shards),
        hash_manifest(RECIPE, 1, shards),
        hash_manifest(RECIPE, 0, shards[:1]),
        hash_manifest(RECIPE, 0, (shards[0], replace(shards[1], sha256="f" * 64))),
        hash_manifest(RECIPE, 0, (shards[0], replace(shards[1], split="val"))),
        hash_manifest(RECIPE, 0, (shards[0], replace(shards[1], number=2))),
    ]
    assert len(set(digests)) == len(digests)


def test_the_digest_is_independent_of_what_libraries_decide() -> None:
    other_table = replace(record(0), table="tables/other.parquet", table_sha256="e" * 64)
    assert hash_manifest(RECIPE, 0, (record(0),)) == hash_manifest(RECIPE, 0, (other_table,))


def commit_dataset(folder: Path, shards: tuple[ShardRecord, ...]) -> str:
    """A place with a commit record and the rows of these shards."""
    rows = shards_to_parquet(shards)
    storage.publish(str(folder / name_shards_file(sha256_hex(rows))), rows)
    fields = {
        "format": FORMAT,
        "recipe": RECIPE,
        "seed": 0,
        "shards_sha256": sha256_hex(rows),
        "manifest_sha256": "d" * 64,
    }
    storage.publish(str(folder / COMMIT_FILE), seal(fields))
    return str(folder)


def test_a_committed_dataset_opens(tmp_path: Path) -> None:
    shards = (record(0), record(1), record(0, "val"))
    dataset = open_dataset(commit_dataset(tmp_path, shards))
    assert dataset.shards == shards
    assert (dataset.name, dataset.manifest_sha256) == ("folder", "d" * 64)
    assert dataset.split("train") == shards[:2]


def test_a_place_without_commit_record_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    commit_dataset(tmp_path, (record(0),))
    (tmp_path / COMMIT_FILE).unlink()
    with pytest.raises(UsageError, match=rf"no dataset at {tmp_path}: .*`lacuna shard --source NAME --out {tmp_path}`"):
        open_dataset(str(tmp_path))
    with pytest.raises(UsageError, match="no dataset at"):
        open_dataset(str(tmp_path / "nowhere"))


def test_another_format_is_refused_by_its_name(tmp_path: Path) -> None:
    uri = commit_dataset(tmp_path, (record(0),))
    commit = unseal((tmp_path / COMMIT_FILE).read_bytes(), uri)
    storage.publish(f"{uri}/{COMMIT_FILE}", seal({**commit, "format": 2}))
    with pytest.raises(UsageError, match=rf"{uri} has the format 2, this version of Lacuna reads {FORMAT}"):
        open_dataset(uri)


def test_the_newest_record_is_read_wherever_dataset_json_stands(tmp_path: Path) -> None:
    uri = commit_dataset(tmp_path, (record(0),))
    commits = [unseal((tmp_path / COMMIT_FILE).read_bytes(), uri)]
    for seed in (1, 2):
        commits.append({**commits[-1], "seed": seed})
        storage.publish(f"{uri}/{name_successor(commits[-2])}", seal(commits[-1]))
    assert open_dataset(uri).commit == commits[-1]
    storage.publish(f"{uri}/{COMMIT_FILE}", seal(commits[1]))
    assert open_dataset(uri).commit == commits[-1]
    (tmp_path / name_successor(commits[1])).write_bytes(seal(commits[2])[:-1])
    with pytest.raises(CorruptDataError, match=rf"{uri}/{name_successor(commits[1])}"):
        open_dataset(uri)


def test_rows_of_another_dataset_are_damage(tmp_path: Path) -> None:
    uri = commit_dataset(tmp_path, (record(0), record(1)))
    name = name_shards_file(sha256_hex(shards_to_parquet((record(0), record(1)))))
    storage.publish(f"{uri}/{name}", shards_to_parquet((record(0),)))
    with pytest.raises(CorruptDataError, match=rf"{uri}/{name} is damaged"):
        open_dataset(uri)


@pytest.mark.slow
def test_a_process_that_has_read_a_dataset_ends_in_peace(tmp_path: Path) -> None:
    """A library's thread that is still starting when the interpreter ends has aborted every fourth such process."""
    words = ("import webdataset", "from pipelines.manifest import open_dataset", "open_dataset(sys.argv[1])")
    command = [sys.executable, "-c", "\n".join(("import sys", *words)), commit_dataset(tmp_path, (record(0),))]
    codes = [subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, check=False).returncode for _ in range(40)]
    assert set(codes) == {0}, codes


def test_an_empty_split_is_refused_naming_those_that_are_filled(tmp_path: Path) -> None:
    dataset = open_dataset(commit_dataset(tmp_path, (record(0), record(0, "test"), record(0, "val", num_samples=0))))
    for name in ("val", "nonsense"):
        with pytest.raises(UsageError, match=f"no photos in split '{name}' of {tmp_path}: it has test, train"):
            dataset.split(name)
    with pytest.raises(UsageError, match="it has no photos"):
        Dataset("x", {}, ()).split("train")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    members = [{"name": "a.jpg", "offset": 512, "size": 3, "crc32": 2**32 - 1}]
    rows = [
        dict.fromkeys(TABLE_SCHEMA.names) | {"key": "a", "outcome": "written", "members": members, "masks": ["x", "y"]},
        dict.fromkeys(TABLE_SCHEMA.names) | {"source": "ü\n.txt", "outcome": "rejected", "reason": "not an image"},
    ]
    data = table_bytes(pa.Table.from_pylist(rows, TABLE_SCHEMA))
    (tmp_path / "t").write_bytes(data)
    shard = replace(record(0), table_sha256=sha256_hex(data))
    assert read_table(str(tmp_path), shard).to_pylist() == rows
    assert data == table_bytes(pa.Table.from_pylist(rows, TABLE_SCHEMA))
