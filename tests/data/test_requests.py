"""What each step of a build asks a store for, counted, is what `tests/benchmarks/scale.py` says of a billion photos."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra import object_store, storage
from pipelines.data.build import scan
from pipelines.data.build.scan import list_source
from pipelines.data.commit import workspace
from pipelines.data.commit.workspace import Layout, Plan
from tests.benchmarks.builds import STEPS
from tests.benchmarks.scale import Site, Step, tasks
from tests.making import photo_folder, shard_recipe

NUM_PHOTOS = 160


class _Counting(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that counts requests."""

    protocol = "counting"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012
    asked: ClassVar[Counter[str]] = Counter()

    def exists(self, path: str, **more: Any) -> bool:
        self.asked["reads"] += 1
        return bool(super().exists(path, **more))

    def cat_file(self, path: str, **more: Any) -> bytes:
        self.asked["reads"] += 1
        return bytes(super().cat_file(path, **more))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        self.asked["writes"] += 1
        if mode == "create" and self._strip_protocol(path) in self.store:
            raise FileExistsError(path)
        super().pipe_file(path, value, **more)

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        self.asked["writes"] += 1
        super().put_file(lpath, rpath, **more)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Plan, Layout]]:
    """A listing of photos on the store, in so few buckets that every stretch of every file has rows."""
    fsspec.register_implementation("counting", _Counting, clobber=True)
    monkeypatch.setattr(scan, "PHOTOS_PER_CHUNK", 40)
    monkeypatch.setattr(scan, "PHOTOS_PER_SCAN", 40)
    monkeypatch.setattr(scan, "_PHOTOS_PER_DIGEST_BUCKET", 80)
    monkeypatch.setattr(workspace, "PHOTOS_PER_BUCKET", 40)
    photos = photo_folder(tmp_path / "photos", NUM_PHOTOS)
    for name, _ in storage.list_files(str(photos)):
        storage.publish(f"counting://bucket/photos/{name}", (photos / name).read_bytes())
    plan = Plan("counting://bucket/photos", "counting://bucket/out", shard_recipe(holdout=0, shard_bytes=60_000), 0)
    yield plan, list_source(plan)
    _Counting.store.clear()
    object_store._HAS_CONDITIONS.clear()


def count_requests(plan: Plan, layout: Layout, step: Step) -> tuple[int, int]:
    """Reads and writes of the step's tasks."""
    _Counting.asked.clear()
    task, count = STEPS[step.name]
    assert count(layout) == step.num_tasks
    for number in range(step.num_tasks):
        task(plan, layout, number)
    return _Counting.asked["reads"], _Counting.asked["writes"]


def test_every_step_asks_for_what_the_formulas_say(listed: tuple[Plan, Layout]) -> None:
    plan, layout = listed
    assert (layout.num_scans, layout.num_key_buckets, layout.num_digest_buckets) == (4, 4, 2)
    assert layout.num_shards["train"] > 1
    for step in tasks(Site(num_photos=NUM_PHOTOS, share_with_finds=0), layout):
        assert (step.name, *count_requests(plan, layout, step)) == (step.name, step.num_reads, step.num_writes)


def test_the_layout_of_a_site_is_that_of_a_listing(
    listed: tuple[Plan, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, layout = listed
    for name in ("PHOTOS_PER_CHUNK", "PHOTOS_PER_SCAN", "_PHOTOS_PER_DIGEST_BUCKET"):
        monkeypatch.setattr(f"tests.benchmarks.scale.{name}", getattr(scan, name))
    site = Site(num_photos=NUM_PHOTOS).layout
    for count in ("num_files", "num_chunks", "num_scans", "num_digest_buckets", "num_key_buckets"):
        assert getattr(site, count) == getattr(layout, count), count
