"""The joins of a build, step by step in this process: their buckets are a matter of size and change no byte."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from infra import storage
from pipelines.data import listing, settling, workspace
from pipelines.data.listing import list_source, scan_files
from pipelines.data.settling import find_duplicates, mark_duplicates, settle_keys
from pipelines.data.shards import write_shard
from pipelines.data.workspace import Layout, Plan
from pipelines.records import ShardRecord
from tests.making import photo_folder, shard_recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 photos, of which 8 are there twice."""
    folder = photo_folder(tmp_path_factory.mktemp("in"), 80)
    for number in range(0, 80, 10):
        shutil.copy(folder / f"class0/{number:04d}.jpg", folder / f"again-{number}.jpg")
    return folder


def settled(root: Path, out: Path) -> tuple[Plan, Layout]:
    """All steps before the shards."""
    plan = Plan(str(root), str(out), shard_recipe(shard_bytes=4000), 0)
    layout = list_source(plan)
    for step, count in (
        (scan_files, layout.num_scans),
        (settle_keys, layout.num_key_buckets),
        (find_duplicates, layout.num_digest_buckets),
        (mark_duplicates, layout.num_key_buckets),
    ):
        for number in range(count):
            step(plan, layout, number)
    return plan, layout


def shards(plan: Plan, layout: Layout) -> list[ShardRecord]:
    """All of them."""
    return [write_shard(plan, layout, split, n)[0] for split, count in layout.num_shards.items() for n in range(count)]


@pytest.mark.parametrize(("per_bucket", "per_digest_bucket", "per_chunk"), [(60, 250_000, 7), (20, 10, 30), (1, 3, 1)])
def test_the_number_of_buckets_changes_no_byte(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    per_bucket: int, per_digest_bucket: int, per_chunk: int,
) -> None:  # fmt: skip
    usual = shards(*settled(root, tmp_path / "usual"))
    monkeypatch.setattr(workspace, "PHOTOS_PER_BUCKET", per_bucket)
    monkeypatch.setattr(listing, "PHOTOS_PER_BUCKET", per_bucket)
    monkeypatch.setattr(listing, "_PHOTOS_PER_DIGEST_BUCKET", per_digest_bucket)
    monkeypatch.setattr(listing, "PHOTOS_PER_CHUNK", per_chunk)
    plan, layout = settled(root, tmp_path / "other")
    assert layout.num_key_buckets == min(workspace.power_of_two(-(-88 // per_bucket)), max(layout.num_shards.values()))
    assert layout.num_scans >= 88 / per_bucket
    assert shards(plan, layout) == usual
    assert sum(shard.num_duplicates for shard in usual) == 8


def test_a_shard_reads_its_bucket_and_no_file_of_all_the_finds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_PHOTOS_PER_DIGEST_BUCKET", 5)
    plan, layout = settled(root, tmp_path / "out")
    assert layout.num_digest_buckets >= 16
    read: Counter[str] = Counter()
    for name in ("read_bytes", "read_range"):
        monkeypatch.setattr(storage, name, _counting(read, name))
    for number in range(layout.num_shards["train"]):
        settling.settled_inputs(plan, layout, "train", number)
    assert read == {"read_bytes": layout.num_shards["train"]}  # of which each meets one bucket


def _counting(read: Counter[str], name: str) -> object:
    real = getattr(storage, name)

    def counted(*arguments: object) -> bytes:
        read[name] += 1
        return bytes(real(*arguments))

    return counted
