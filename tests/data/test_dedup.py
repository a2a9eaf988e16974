"""The joins of a build, step by step in this process: their buckets are a matter of size and change no byte."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from infra import storage
from pipelines.data.build import dedup, scan
from pipelines.data.build.dedup import _CONTENT, find_duplicates, group_earlier_shards, mark_duplicates, resolve_keys
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit import workspace
from pipelines.data.commit.workspace import Layout, Plan, read_bucket
from pipelines.manifest import open_dataset
from pipelines.records import ShardRecord
from tests.conftest import silent
from tests.making import photo_folder, shard_recipe

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 photos, of which 8 are there twice."""
    folder = photo_folder(tmp_path_factory.mktemp("in"), 80)
    for number in range(0, 80, 10):
        shutil.copy(folder / f"class0/{number:04d}.jpg", folder / f"again-{number}.jpg")
    return folder


def resolve_folder(root: Path, out: Path) -> tuple[Plan, Layout]:
    """All steps before the shards."""
    plan = Plan(str(root), str(out), shard_recipe(shard_bytes=4000), 0)
    layout = list_source(plan)
    for step, count in (
        (scan_files, layout.num_scans),
        (resolve_keys, layout.num_key_buckets),
        (find_duplicates, layout.num_digest_buckets),
        (mark_duplicates, layout.num_key_buckets),
    ):
        for number in range(count):
            step(plan, layout, number)
    return plan, layout


def shards(plan: Plan, layout: Layout) -> list[ShardRecord]:
    """All of them."""
    return [write_shard(plan, layout, split, n)[0] for split, count in layout.num_shards.items() for n in range(count)]


@pytest.mark.parametrize(("per_bucket", "per_digest_bucket", "per_chunk"), [(60, 250_000, 7), (20, 10, 30), (2, 9, 3)])
def test_the_number_of_buckets_changes_no_byte(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    per_bucket: int, per_digest_bucket: int, per_chunk: int,
) -> None:  # fmt: skip
    usual = shards(*resolve_folder(root, tmp_path / "usual"))
    monkeypatch.setattr(workspace, "PHOTOS_PER_BUCKET", per_bucket)
    monkeypatch.setattr(scan, "PHOTOS_PER_SCAN", per_bucket)
    monkeypatch.setattr(scan, "_PHOTOS_PER_DIGEST_BUCKET", per_digest_bucket)
    monkeypatch.setattr(scan, "PHOTOS_PER_CHUNK", per_chunk)
    plan, layout = resolve_folder(root, tmp_path / "other")
    assert layout.num_key_buckets == workspace.round_to_power_of_two(-(-88 // per_bucket))
    assert layout.num_scans >= 88 / per_bucket
    assert shards(plan, layout) == usual
    assert sum(shard.num_duplicates for shard in usual) == 8


def test_a_shard_reads_its_own_rows_and_no_file_of_all_the_finds(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_PHOTOS_PER_DIGEST_BUCKET", 5)
    plan, layout = resolve_folder(root, tmp_path / "out")
    assert layout.num_digest_buckets >= 16
    read: Counter[str] = Counter()
    for name in ("read_bytes", "read_range"):
        monkeypatch.setattr(storage, name, _counting(read, name))
    rows = [row for n in range(layout.num_shards["train"]) for row in dedup.select_resolved(plan, layout, "train", n)]
    assert {row["split"] for row in rows} == {"train"}
    assert layout.num_key_buckets == 1  # each looks up where its rows lie in it, and reads them
    assert read == {"read_range": 2 * layout.num_shards["train"]}


@pytest.mark.usefixtures("ray_cluster")
def test_few_photos_added_to_many_meet_the_many_in_buckets_as_small(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, few = tmp_path / "out", photo_folder(tmp_path / "few", 2)
    build_dataset(Plan(str(root), str(out), shard_recipe(shard_bytes=4000), 0), silent)
    monkeypatch.setattr(workspace, "PHOTOS_PER_BUCKET", 12)
    monkeypatch.setattr(scan, "_PHOTOS_PER_DIGEST_BUCKET", 12)
    plan, base = Plan(str(few), str(out), shard_recipe(shard_bytes=4000), 0, layer=1), open_dataset(str(out))
    layout = list_source(plan)
    assert layout.num_key_buckets == layout.num_digest_buckets == 8  # for 88 + 2 inputs
    for number in range(layout.num_scans):
        scan_files(plan, layout, number)
    for number, shards in enumerate(group_earlier_shards(base, layout)):
        resolve_keys(plan, layout, number, shards)
    files = [plan.at("contents", f"{bucket:06d}.buckets") for bucket in range(8)]
    of_keys = [sum(read_bucket([file], n, _CONTENT).num_rows for n in range(8)) for file in files]
    of_digests = [read_bucket(files, number, _CONTENT).num_rows for number in range(8)]
    assert sum(of_keys) == sum(of_digests) == 81  # what the dataset holds, and a copy that it has under another key
    assert max(of_keys) <= 2 * 12
    assert max(of_digests) <= 2 * 12


def _counting(read: Counter[str], name: str) -> object:
    real = getattr(storage, name)

    def count_reads(*arguments: object) -> bytes:
        read[name] += 1
        return bytes(real(*arguments))

    return count_reads
