"""The build on a real Ray cluster: the ledger, the keys, and what the dataset says of every input."""

import io
import json
import shutil
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pipelines.data.shard_tar import read_index
from pipelines.manifest import COMMIT_FILE, Dataset, name_shards_file, read_table
from pipelines.records import make_key, sha256_hex
from tests.data.building import (
    ODD_NAMES,
    TOO_LONG,
    build_folder,
    read_by_webdataset,
    rows_by_source,
    rows_of,
    save,
)
from tests.making import photo

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_the_ledger_balances(odd: Path, odd_dataset: Dataset) -> None:
    inputs = [p for p in odd.rglob("*") if p.is_file() or p.is_symlink()]
    assert odd_dataset.commit["ledger"] == {
        "num_inputs": len(inputs),
        "num_written": 20 + len(ODD_NAMES) + 1,
        "num_duplicates": 2,
        "num_rejected": 6,
        "num_removed": 0,
    }


def test_every_input_has_one_row_with_its_outcome(odd: Path, odd_dataset: Dataset) -> None:
    rows = rows_by_source(odd_dataset)
    assert set(rows) == {str(p.relative_to(odd)) for p in odd.rglob("*") if p.is_file() or p.is_symlink()}
    outcomes = Counter(row["outcome"] for row in rows.values())
    assert outcomes == {"written": 27, "duplicate": 2, "rejected": 6}
    for row in rows.values():
        assert (row["reason"] is None) == (row["outcome"] == "written")
        assert bool(row["members"]) == (row["outcome"] == "written")


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("notes.txt", "rejected", "not an image"),
        ("empty.jpg", "rejected", "empty file"),
        ("cut.jpg", "rejected", "cut or damaged"),
        ("away.jpg", "rejected", "cannot be read"),
        (TOO_LONG, "rejected", "key longer than 200 bytes"),
        ("pair/a.png", "rejected", "key collision: pair/a"),
        ("class1/zz-again.jpg", "duplicate", "same bytes as class0/0000"),
        ("zz-and-again", "duplicate", "same bytes as class0/0000"),
    ],
)
def test_what_is_not_written_says_why(odd_dataset: Dataset, name: str, outcome: str, reason: str) -> None:
    row = rows_by_source(odd_dataset)[name]
    assert row["outcome"] == outcome
    assert reason in row["reason"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_become_keys_and_are_written(odd: Path, odd_dataset: Dataset, name: str) -> None:
    row = rows_by_source(odd_dataset)[name]
    assert (row["outcome"], row["key"]) == ("written", make_key(name))
    assert row["source_sha256"] == sha256_hex((odd / name).read_bytes())


def test_plain_webdataset_reads_what_the_manifest_counts(odd: Path, odd_dataset: Dataset) -> None:
    samples = read_by_webdataset(odd_dataset, "train")
    assert len(samples) == odd_dataset.commit["ledger"]["num_written"] == sum(s.num_samples for s in odd_dataset.shards)
    written = {row["key"]: row for row in rows_of(odd_dataset) if row["outcome"] == "written"}
    assert {s["__key__"] for s in samples} == set(written)
    for sample in samples:
        note = json.loads(sample["json"])
        picture = sample.get("jpg") or sample.get("png")
        assert picture == (odd / note["source"]).read_bytes()
        assert (note["key"], note["normalised"]) == (sample["__key__"], [])
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (note["width_px"], note["height_px"]) == (40, 48)


def test_labels_are_the_first_folder(odd_dataset: Dataset) -> None:
    rows = rows_by_source(odd_dataset)
    assert {rows[n]["label"] for n in ("class0/0000.jpg", "class0/0004.jpg")} == {"class0"}
    assert rows["two words.png"]["label"] is None


def test_each_shard_proves_itself_alone(odd_dataset: Dataset) -> None:
    assert len(odd_dataset.shards) >= 4
    for shard in odd_dataset.shards:
        data = (Path(odd_dataset.uri) / shard.file).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        assert names[-1] == "__index__"
        index = read_index(data)
        assert [member.name for member in index] == names[:-1]
        assert len(index) == 2 * shard.num_samples
        for member in index:
            assert zlib.crc32(data[member.offset : member.offset + member.size]) == member.crc32


def test_tables_know_the_members_and_digests_of_the_shards(odd_dataset: Dataset) -> None:
    for shard in odd_dataset.shards:
        data = (Path(odd_dataset.uri) / shard.file).read_bytes()
        assert (len(data), sha256_hex(data)) == (shard.size_bytes, shard.sha256)
        assert shard.sha256[:12] in shard.file
        rows = [r for r in read_table(odd_dataset.uri, shard).to_pylist() if r["outcome"] == "written"]
        members = [m for row in rows for m in row["members"]]
        assert [(m["name"], m["offset"], m["size"], m["crc32"]) for m in members] == [
            (m.name, m.offset, m.size, m.crc32) for m in read_index(data)
        ]


def test_rows_and_records_count_the_same(odd_dataset: Dataset) -> None:
    for shard in odd_dataset.shards:
        outcomes = Counter(r["outcome"] for r in read_table(odd_dataset.uri, shard).to_pylist())
        assert (outcomes["written"], outcomes["duplicate"], outcomes["rejected"]) == (
            shard.num_samples,
            shard.num_duplicates,
            shard.num_rejected,
        )


def test_a_built_dataset_leaves_no_workspace(odd_dataset: Dataset) -> None:
    rows = name_shards_file(odd_dataset.commit["shards_sha256"])
    assert {p.name for p in Path(odd_dataset.uri).iterdir()} - {".lock"} == {COMMIT_FILE, rows, "tables", "train"}


def test_keys_are_unique_in_the_dataset_over_all_splits(tmp_path: Path) -> None:
    for number in range(24):
        save(photo(number), tmp_path / "in" / f"{number}.jpg")
        save(photo(500 + number), tmp_path / "in" / f"{number}.png")
    dataset = build_folder(tmp_path / "in", tmp_path / "out", holdout=0.5, max_reject_share=0.6)
    keys = Counter(row["key"] for row in rows_of(dataset) if row["outcome"] == "written")
    assert [key for key, count in keys.items() if count > 1] == []


def test_of_equal_photos_the_smallest_key_is_kept(tmp_path: Path) -> None:
    for name in ("b.jpg", "a b.jpg", "a-b.jpg", "z/a.jpg"):
        save(photo(1), tmp_path / "in" / name)
    rows = rows_by_source(build_folder(tmp_path / "in", tmp_path / "out", holdout=0.0))
    assert [name for name, row in rows.items() if row["outcome"] == "written"] == ["a-b.jpg"]
    assert {row["reason"] for row in rows.values()} == {None, "same bytes as a-b"}


def test_the_first_of_a_duplicate_is_in_the_dataset(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/a.jpg")
    save(photo(2), tmp_path / "in/a.png")
    shutil.copy(tmp_path / "in/a.png", tmp_path / "in/b.png")
    dataset = build_folder(tmp_path / "in", tmp_path / "out", holdout=0.0)
    rows = rows_of(dataset)
    written = {row["source_sha256"] for row in rows if row["outcome"] == "written"}
    assert {row["source"] for row in rows if row["outcome"] == "duplicate"} <= {
        row["source"] for row in rows if row["source_sha256"] in written
    }


@pytest.mark.parametrize("name", ["a::b.jpg", "memory::a.jpg", "x\udcff.jpg"])
def test_names_that_mean_something_to_libraries_harm_nobody(tmp_path: Path, name: str) -> None:
    root = tmp_path / "in"
    save(photo(1), root / "a.jpg")
    shutil.copy(root / "a.jpg", root / "a")
    save(photo(2), root / "other.jpg")
    (root / name).write_bytes((root / "other.jpg").read_bytes())
    (root / "other.jpg").unlink()
    dataset = build_folder(root, tmp_path / "out", holdout=0.0)
    assert dataset.commit["ledger"]["num_inputs"] == 3
    for row in rows_of(dataset):
        if row["outcome"] != "rejected":
            assert row["source_sha256"] == sha256_hex((root / row["source"]).read_bytes())


def test_what_is_no_picture_does_not_take_the_key_of_one(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/a.png")
    (tmp_path / "in/a.json").write_text('{"caption": "a photo"}')
    (tmp_path / "in/a.txt").write_text("a photo")
    rows = rows_by_source(build_folder(tmp_path / "in", tmp_path / "out", holdout=0.0))
    assert rows["a.png"]["outcome"] == "written"
    assert {rows[name]["reason"][:12] for name in ("a.json", "a.txt")} == {"not an image"}
