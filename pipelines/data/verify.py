"""Every byte of a dataset against its records: what differs is named by file and, where it can be, by key."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from infra import storage
from infra.cluster import connected, run_tasks
from pipelines.manifest import COMMIT_FILE, SHARDS_FILE, Dataset, open_dataset, read_commit, read_table
from pipelines.records import Damaged, ShardRecord
from pipelines.stream.reading import ShardReader


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    file: str
    key: str | None
    what: str


def verify_dataset(uri: str) -> tuple[Dataset | None, list[Damage]]:
    """Checks commit record, shard rows, tables and shards, a Ray task per shard; raises Refused where there is none."""
    for file, read in ((COMMIT_FILE, read_commit), (SHARDS_FILE, open_dataset)):
        try:
            read(uri)
        except Damaged as fault:
            return None, [Damage(file, None, str(fault))]
    dataset = open_dataset(uri)
    with connected():
        found = run_tasks(_verify_shard, [(uri, shard) for shard in dataset.shards])
        return dataset, sorted((d for damages in found for d in damages), key=lambda d: (d.file, d.key or ""))


def _verify_shard(uri: str, shard: ShardRecord) -> list[Damage]:
    return list(_damages(uri, shard))


def _damages(uri: str, shard: ShardRecord) -> Iterator[Damage]:
    try:
        rows = read_table(uri, shard).to_pylist()
    except Damaged as fault:
        yield Damage(shard.table, None, str(fault))
        rows = []
    digest = hashlib.sha256()
    try:
        size = storage.digest_file(storage.join(uri, shard.file), digest)
    except FileNotFoundError:
        yield Damage(shard.file, None, "missing")
        return
    if digest.hexdigest() == shard.sha256:
        return
    yield Damage(shard.file, None, f"SHA-256 differs; {size} bytes, {shard.size_bytes} recorded")
    if rows:
        yield from _damaged_keys(uri, shard)


def _damaged_keys(uri: str, shard: ShardRecord) -> Iterator[Damage]:
    reader = ShardReader((Dataset(uri, {"recipe": {"source": ""}}, (shard,)),), shard.split)
    for sample in range(shard.num_samples):
        try:
            reader.read(0, sample)
        except Damaged as fault:
            yield Damage(shard.file, reader.key(0, sample), str(fault))
