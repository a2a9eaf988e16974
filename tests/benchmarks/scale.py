"""A build of very many photos on paper: requests, bytes, tasks and seconds of each step, and what is full first.

`python -m tests.benchmarks.scale [PHOTOS]`: the formulas are those of the steps in `pipelines.data`; the times of a
photo come from `make bench`, those of the store and the network are assumptions and stand in `Site`. Requests are held
against a build on a store that counts them (`tests/data/test_requests.py`).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.data.build.scan import (
    _PHOTOS_PER_DIGEST_BUCKET,
    _PUTS_AT_ONCE,
    _USUAL_SCANS,
    PHOTOS_PER_CHUNK,
    PHOTOS_PER_SCAN,
)
from pipelines.data.commit.workspace import Layout, round_to_power_of_two

TABLE_ROW_BYTES: Final = 101
"""Of a shard's table, measured on CelebA: 404,545 bytes for 4,000 photos."""
SHARD_ROW_BYTES: Final = 99
WORKSPACE_ROW_BYTES: Final = 725
"""Of a stream of six rows in a bucket file, as they are at 1e9 photos; 49 where it has a thousand."""
DRIVER_BYTES_A_SHARD: Final = 721 + 111
"""Record and arguments, by tracemalloc."""
TASK_ROW_BYTES: Final = {
    "listing": 876, "scanning": 660, "naming": 1300, "comparing": 350, "marking": 1100, "sharding": 1300,
}  # fmt: skip
"""What a task takes above an idle worker for each of its rows, copies in another order included; measured."""
LARGEST_LIST: Final = 1000
ONCE: Final = 3
"""Requests of a marker beside its own put: looked for twice, read."""
TIMED: Final = 4 * 2
"""Photos of a shard that are read again, twice, to know what the machine could do at most."""


@dataclass(frozen=True)
class Site:
    """The machines, the store and the photos."""

    num_photos: int = 1_000_000_000
    photo_bytes: int = 100_000
    num_folders: int = 1_000_000
    shard_bytes: int = 256 << 20
    cores: int = 3200
    network_bytes_a_second: float = 200 * 1.25e9
    request_seconds: float = 0.02
    list_seconds: float = 0.1
    lists_at_once: int = 16
    tasks_a_second: float = 1000.0
    seconds_a_photo_byte: float = 1 / 2.0e9
    """One SHA-256."""
    share_with_finds: float = 1.0
    """Of the pairs of a bucket of digests and one of keys, how many have a duplicate."""

    @property
    def layout(self) -> Layout:
        """The counts that a listing of such photos decides."""
        chunks = -(-self.num_photos // PHOTOS_PER_CHUNK)
        shards = round_to_power_of_two(-(-self.num_photos * self.photo_bytes // self.shard_bytes))
        digests = round_to_power_of_two(-(-self.num_photos // _PHOTOS_PER_DIGEST_BUCKET))
        scans = max(min(chunks, _USUAL_SCANS), -(-self.num_photos // PHOTOS_PER_SCAN))
        return Layout(self.num_photos, 0, 0, chunks, scans, {"train": shards}, digests)


@dataclass(frozen=True)
class Step:
    """What a step asks for in all: processor seconds, requests, bytes over the network, tasks of one core each."""

    name: str
    core_seconds: float
    num_reads: int
    num_writes: int
    num_bytes: float
    num_tasks: int
    task_rows: int
    waits_seconds: float = 0.0
    """For lists."""
    requests_at_once: int = 1
    """Of a task."""

    def seconds(self, site: Site) -> dict[str, float]:
        """What each resource takes for it, all others being free."""
        at_once = min(site.cores, self.num_tasks)
        waves = -(-self.num_tasks // at_once) * at_once / self.num_tasks  # the last wave may be short
        requests = (self.num_reads + self.num_writes) * site.request_seconds / self.requests_at_once
        return {
            "processor": self.core_seconds / at_once * waves,
            "requests": requests / at_once * waves + self.waits_seconds,
            "network": self.num_bytes / (site.network_bytes_a_second * at_once / site.cores),
            "driver": self.num_tasks / site.tasks_a_second,
        }


def steps(site: Site) -> Iterator[Step]:
    """The steps of a build, in their order."""
    layout = site.layout
    lists = -(-site.num_photos // LARGEST_LIST) + site.num_folders
    waits = lists * site.list_seconds / site.lists_at_once
    rows = site.num_photos * WORKSPACE_ROW_BYTES
    listing = site.num_photos * 14e-6
    held = _PUTS_AT_ONCE * PHOTOS_PER_CHUNK
    yield Step("listing", listing, ONCE, layout.num_chunks + 1, rows, 1, held, waits, _PUTS_AT_ONCE)
    yield from tasks(site, layout)


def tasks(site: Site, layout: Layout) -> Iterator[Step]:
    """The steps that are tasks, for that layout."""
    photos, shards, scans = site.num_photos, layout.num_shards["train"], layout.num_scans
    keys, digests = layout.num_key_buckets, layout.num_digest_buckets
    rows, num_bytes = photos * WORKSPACE_ROW_BYTES, photos * site.photo_bytes
    hashing = num_bytes * site.seconds_a_photo_byte
    yield Step(
        "scanning", photos * 42e-6 + hashing, photos + layout.num_chunks + ONCE * scans, 2 * scans,
        num_bytes + 2 * rows, scans, photos // scans,
    )  # fmt: skip
    yield Step("naming", photos * 29e-6, (2 * scans + ONCE) * keys, 3 * keys, 2 * rows, keys, photos // keys)
    reads = (2 * keys + ONCE) * digests
    yield Step("comparing", photos * 9e-6, reads, 2 * digests, rows / 2, digests, photos // digests)
    finds = round(site.share_with_finds * digests * keys)
    reads = (digests + 1 + ONCE) * keys + finds
    yield Step("marking", photos * 3e-6, reads, 2 * keys, 2 * rows, keys, photos // keys)
    settled = 2 * shards * max(1, keys // shards)
    yield Step(
        "sharding", photos * 67e-6 + 2 * hashing, photos + settled + (ONCE + TIMED) * shards, 3 * shards,
        2 * num_bytes + rows, shards, photos // shards,
    )  # fmt: skip


def total_table(site: Site) -> None:
    """A line for each step, then for the whole."""
    print(
        f"{site.num_photos:,} photos of {site.photo_bytes / 1000:.0f} kB, shards of {site.shard_bytes >> 20} MiB, "
        f"{site.cores} cores: {site.layout.num_shards['train']:,} shards, {site.layout.num_key_buckets:,} key and "
        f"{site.layout.num_digest_buckets:,} digest buckets\n"
    )
    print("| step | tasks | GET | PUT | moved | memory of a task | processor | requests | network | driver | about |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    whole = 0.0
    for step in steps(site):
        need = step.seconds(site)
        about = max(need["processor"] + need["requests"], need["network"], need["driver"])
        whole += about
        worker = step.task_rows * TASK_ROW_BYTES[step.name] / 1e6
        times = " | ".join(_time(seconds) for seconds in need.values())
        print(
            f"| {step.name} | {step.num_tasks:,} | {step.num_reads / 1e6:,.1f} M | {step.num_writes / 1e6:,.2f} M | "
            f"{step.num_bytes / 1e12:,.2f} TB | {worker:,.0f} MB | {times} | **{_time(about)}** |"
        )
    shards = site.layout.num_shards["train"]
    tables = site.num_photos * TABLE_ROW_BYTES / 1e9
    print(
        f"\nall steps about {_time(whole)}; the manifest: {tables:.1f} GB of tables in {shards:,} files, "
        f"the rows of the shards {shards * SHARD_ROW_BYTES / 1e6:.0f} MB; "
        f"the driver holds {shards * DRIVER_BYTES_A_SHARD / 1e6:.0f} MB"
    )


def _time(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def main() -> None:
    """With the default shards, and with large ones."""
    photos = int(float(sys.argv[1])) if len(sys.argv) > 1 else Site.num_photos
    for megabytes in (64, 256):
        total_table(Site(photos, num_folders=-(-photos // 1000), shard_bytes=megabytes << 20))
        print()


if __name__ == "__main__":
    main()
