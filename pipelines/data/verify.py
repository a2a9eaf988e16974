"""Every byte of a dataset against its records: what differs is named by file and, where it can be, by key."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from infra import storage
from infra.cluster import connected, run_tasks
from pipelines.chance import Chance
from pipelines.data.tar import read_index
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_commit, read_table, shards_file
from pipelines.records import Damaged, Member, ShardRecord


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    file: str
    key: str | None
    what: str


def verify_dataset(uri: str, share: float = 1.0, seed: int = 0) -> tuple[Dataset | None, list[Damage]]:
    """Checks the records and, a Ray task each, this share of the shards with their tables, chosen by the seed.

    Raises Refused where there is no dataset.
    """
    try:
        commit = read_commit(uri)
    except Damaged as fault:
        return None, [Damage(COMMIT_FILE, None, str(fault))]
    try:
        dataset = open_dataset(uri)
    except Damaged as fault:
        return None, [Damage(shards_file(commit["shards_sha256"]), None, str(fault))]
    drawn = sorted(dataset.shards, key=lambda shard: Chance(seed, "verify", shard.file).fraction())
    chosen = drawn[: num_checked(dataset, share)]
    found = list(_damaged_absent(dataset))
    with connected():
        for damages in run_tasks(_verify_shard, [(uri, shard) for shard in chosen]):
            found += damages
    return dataset, sorted(found, key=lambda d: (d.file, d.key or ""))


def num_checked(dataset: Dataset, share: float) -> int:
    """How many shards a share of them is; one at least."""
    return max(1, round(share * len(dataset.shards)))


def _damaged_absent(dataset: Dataset) -> Iterator[Damage]:
    """Tables of absent files carry the start of their digest in their name and nowhere else."""
    for name in (name for layer in dataset.layers for name in layer["absent"]):
        digest = hashlib.sha256()
        try:
            storage.digest_file(storage.join(dataset.uri, name), digest)
        except FileNotFoundError:
            yield Damage(name, None, "missing")
            continue
        if not name.endswith(f"-{digest.hexdigest()[:12]}.parquet"):
            yield Damage(name, None, "SHA-256 differs from the one in its name")


def _verify_shard(uri: str, shard: ShardRecord) -> list[Damage]:
    return list(_damages(uri, shard))


def _damages(uri: str, shard: ShardRecord) -> Iterator[Damage]:
    members: list[Member] | None = None
    try:
        rows = read_table(uri, shard).to_pylist()
        members = [Member(**member) for row in rows for member in row["members"] or ()]
    except Damaged as fault:
        yield Damage(shard.table, None, str(fault))
    digest = hashlib.sha256()
    try:
        size = storage.digest_file(storage.join(uri, shard.file), digest)
    except FileNotFoundError:
        yield Damage(shard.file, None, "missing")
        return
    if digest.hexdigest() != shard.sha256:
        yield Damage(shard.file, None, f"SHA-256 differs; {size} bytes, {shard.size_bytes} recorded")
        yield from _damaged_keys(uri, shard, members)


def _damaged_keys(uri: str, shard: ShardRecord, members: list[Member] | None) -> Iterator[Damage]:
    """The keys with a damaged member, by the table or, if that is lost, by the shard's own index."""
    data = storage.read_bytes(storage.join(uri, shard.file))
    if members is None:
        try:
            members = read_index(data)
        except Exception:  # noqa: BLE001 - a damaged index may be anything
            return
    bad: dict[str, str] = {}
    for member in members:
        if zlib.crc32(data[member.offset : member.offset + member.size]) != member.crc32:
            bad.setdefault(member.name.partition(".")[0], member.name)
    for key, name in bad.items():
        yield Damage(shard.file, key, f"CRC32 of member {name} differs")
