"""The listing of a source: what a killed one leaves behind does no harm, and a chunk that is not written stops it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra import storage
from pipelines.data.build import scan
from pipelines.data.build.scan import list_source, publish_absent
from pipelines.data.commit.workspace import Plan
from tests.making import photo, shard_recipe


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of seven, and no more than two of them written at once."""
    monkeypatch.setattr(scan, "PHOTOS_PER_CHUNK", 7)
    monkeypatch.setattr(scan, "_PUTS_AT_ONCE", 2)


def celeba(folder: Path, numbers: range) -> Plan:
    """A list of sixty photos of which these are there."""
    (folder / "in/img_align_celeba").mkdir(parents=True, exist_ok=True)
    (folder / "in/list_eval_partition.txt").write_text("".join(f"{n:06d}.jpg 0\n" for n in range(60)))
    for number in numbers:
        photo(number).save(folder / f"in/img_align_celeba/{number:06d}.jpg")
    return Plan(str(folder / "in"), str(folder / "out"), shard_recipe(source="celeba"), 0)


def absent_names(plan: Plan) -> list[str]:
    """What the published table of a listing names."""
    (name,) = publish_absent(plan, list_source(plan))
    return [str(path) for path in pq.read_table(f"{plan.out}/{name}")["path"].to_pylist()]


@pytest.mark.parametrize("more", [range(9, 30), range(9, 12)])
def test_chunks_of_a_killed_listing_are_not_taken_for_those_of_the_next(tmp_path: Path, more: range) -> None:
    plan = celeba(tmp_path, range(9))
    list_source(plan)
    storage.remove(plan.at("listed.json"))  # it was killed before its end, with all chunks written
    celeba(tmp_path, more)
    layout = list_source(plan)
    assert (layout.num_files, layout.num_absent) == (more.stop, 60 - more.stop)
    assert absent_names(plan) == [f"img_align_celeba/{n:06d}.jpg" for n in range(more.stop, 60)]


@pytest.mark.parametrize("chunk", ["000000", "000008"])
def test_a_chunk_that_cannot_be_written_stops_the_listing(
    chunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(celeba(tmp_path, range(60)).root, f"memory://{tmp_path.name}", shard_recipe(source="celeba"), 0)
    whole = MemoryFileSystem.pipe_file

    def full(self: MemoryFileSystem, path: str, *rest: Any, **more: Any) -> Any:
        if path.endswith(f"listing/{chunk}.arrow"):
            raise OSError("the bucket is full")
        return whole(self, path, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    with pytest.raises(OSError, match="the bucket is full"):
        list_source(plan)
    assert not storage.exists(plan.at("listed.json"))
