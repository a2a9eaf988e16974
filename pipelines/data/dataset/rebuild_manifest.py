"""A lost manifest made again: from the records that are left, else from what each shard says in its own index.

In: the URI of a dataset whose commit record, list of shards or tables are lost. Out: the dataset, committed again, with
the digest that it had. What only a table knew, duplicates and rejected files, is lost with it, and counted.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pyarrow import compute

from infra import storage
from infra.cluster import connect_ray
from pipelines.data.dataset.inventory import (
    Inventory,
    WholeShard,
    layers_by_index,
    layers_of,
    newest_commit,
    one_of_each,
    shards_of,
    survivors_at,
    the_one_list,
)
from pipelines.data.build.pipeline import Progress, each_task
from pipelines.data.build.write_shard import facts_of_table, plane_rows, record_of, table_of
from pipelines.data.commit.commit import commit_dataset, describe, publish_commit, publish_shards
from pipelines.data.commit.lock import change_of
from pipelines.data.commit.workspace import parts_of, share_of
from pipelines.data.dataset.blocks import Block, read_blocks, read_end
from pipelines.data.shard_tar import read_about, read_index, sample_sha256
from pipelines.manifest import COMMIT_FILE, Dataset, read_facts, read_parquet, read_table
from pipelines.records import CorruptDataError, Member, ShardRecord, UsageError, sha256_hex


@dataclass(frozen=True)
class Recovered:
    """A dataset whose manifest is whole again, and what could not be had back."""

    dataset: Dataset
    num_tables_without_rejections: int
    """Tables that were made from the samples alone: their rows of duplicates, rejected and removed photos are lost."""


def recover_dataset(uri: str, progress: Progress) -> Recovered:
    """The dataset at the place, its manifest made again unless it is whole.

    Raises UsageError where there is no shard, one is damaged or missing, or it cannot be told which shards are the
    newest.
    """
    uri = storage.to_absolute(uri)  # tasks stand elsewhere
    there = survivors_at(uri)
    if not there.shards:
        raise UsageError(f"no shards at {uri}: nothing to make a manifest from")
    with connect_ray():
        dataset, num_lost = _found(there, progress)
        for name in set(there.torn) - {COMMIT_FILE}:
            storage.remove(storage.join(uri, name))
        if shards_of(there, dataset.commit) is None:
            publish_shards(dataset)
        if there.records.get(COMMIT_FILE) != dataset.commit:
            publish_commit(dataset)
        return _with_whole_tables(there, dataset, num_lost, progress)


def _found(there: Inventory, progress: Progress) -> tuple[Dataset, int]:
    """The newest dataset of which there is word, and how many tables had to be made to know it."""
    commit = newest_commit(there)
    listed = shards_of(there, commit) if commit else None
    if commit and listed is not None:
        return Dataset(there.uri, commit, listed), 0
    tasks = [(there.uri, file, digest12) for file, digest12 in there.shards.items()]
    found = each_task("recovering", _whole_shard, tasks, progress)
    only = the_one_list(there, {shard.file for shard in found}) if commit is None else None
    if only is not None:
        about, layers = layers_of(there, only)
        return describe(there.uri, about["recipe"], about["seed"], layers, only), 0
    return _of_shards(there, commit, found, progress)


def _whole_shard(uri: str, file: str, sha256: str) -> WholeShard:
    """What a shard says of itself.

    Raises UsageError where it is not that of the digest, or of this beginning of one.
    """
    digest, whole = hashlib.sha256(), storage.join(uri, file)
    size = storage.digest_file(whole, digest)
    if not digest.hexdigest().startswith(sha256):
        raise UsageError(f"{whole} is damaged: its SHA-256 is not the one in its name; restore it first")
    return WholeShard(file, digest.hexdigest(), size, read_about(read_end(whole, size)))


def _of_shards(
    there: Inventory, commit: dict[str, Any] | None, found: list[WholeShard], progress: Progress
) -> tuple[Dataset, int]:
    """The dataset that shards make up, by the commit record if that is left; and how many tables were made."""
    about = commit or found[0].about
    layers = commit["layers"] if commit else layers_by_index(there, [shard.about for shard in found])
    chosen = one_of_each(there, found, layers)
    tasks = [(there.uri, shard, there.tables_of(*shard.place[1:])) for shard in chosen]
    made = each_task("making tables", _with_table, tasks, progress)
    dataset = describe(there.uri, about["recipe"], about["seed"], layers, tuple(record for record, _ in made))
    if commit and dataset.manifest_sha256 != commit["manifest_sha256"]:
        raise UsageError(
            f"the shards at {there.uri} are not those of its commit record: restore the list that it names"
        )
    _refuse_doubles(dataset, progress)
    return dataset, sum(lost for _, lost in made)


def _refuse_doubles(dataset: Dataset, progress: Progress) -> None:
    """Raises UsageError where two shards hold the same key: one of them is of another dataset, or of an older one."""
    count = max(dataset.num_shards(shard) for shard in dataset.shards)
    meeting: dict[int, list[ShardRecord]] = defaultdict(list)
    for shard in dataset.shards:
        for part in parts_of(shard.number, dataset.num_shards(shard), count):
            meeting[part].append(shard)
    tasks = [(dataset.uri, shards, part, count) for part, shards in meeting.items()]
    for key, first, second in filter(None, each_task("comparing", _double, tasks, progress)):
        raise UsageError(f"{first} and {second} in {dataset.uri} both hold {key}: move the one that was replaced away")


def _double(uri: str, shards: list[ShardRecord], part: int, count: int) -> tuple[str, str, str] | None:
    """A key of this part of all keys that two of the shards hold, and their files."""
    holders: dict[str, str] = {}
    for shard in shards:
        table = read_table(uri, shard)
        for key in table.filter(compute.equal(table["outcome"], "written"))["key"].to_pylist():
            if share_of(hashlib.sha256(key.encode()).digest(), count) == part:
                if key in holders:
                    return key, holders[key], shard.file
                holders[key] = shard.file
    return None


def _with_whole_tables(there: Inventory, dataset: Dataset, num_lost: int, progress: Progress) -> Recovered:
    """The dataset with a table for each shard whose own is lost or damaged: a change of it, as others are."""
    tasks = [(dataset.uri, shard) for shard in dataset.shards]
    torn = list(filter(None, each_task("checking", _torn, tasks, progress)))
    if not torn:
        return Recovered(dataset, num_lost)
    with change_of(dataset, "--rebuild"):
        mending = [(dataset.uri, shard, there.tables_of(shard.split, shard.number)) for shard in torn]
        mended = dict(each_task("making tables", _mended, mending, progress))
        shards = tuple(mended.get(shard.file, shard) for shard in dataset.shards)
        recipe, seed = dataset.commit["recipe"], dataset.commit["seed"]
        whole = describe(dataset.uri, recipe, seed, dataset.layers, shards)
        if whole != dataset:
            commit_dataset(whole, dataset)
    lost = sum(old.table != new.table for old, new in zip(dataset.shards, whole.shards, strict=True))
    return Recovered(whole, num_lost + lost)


def _torn(uri: str, shard: ShardRecord) -> ShardRecord | None:
    """The shard if its table is not as it was written."""
    try:
        read_table(uri, shard)
    except (CorruptDataError, IsADirectoryError):
        return shard
    return None


def _mended(uri: str, shard: ShardRecord, tables: list[str]) -> tuple[str, ShardRecord]:
    """The file of a shard and its record with another table."""
    return shard.file, _with_table(uri, _whole_shard(uri, shard.file, shard.sha256), tables)[0]


def _with_table(uri: str, shard: WholeShard, tables: list[str]) -> tuple[ShardRecord, bool]:
    """A shard's record with the table of its own that knows the most, or one made from its samples; whether it was."""
    own = [rows for name in tables if (rows := _rows_of_table(uri, name, shard)) is not None]
    rows = max(own, key=len) if own else list(_rows_of_shard(uri, shard))
    return record_of(uri, shard.about, shard.file, shard.sha256, shard.size_bytes, table_of(rows)), not own


def _rows_of_table(uri: str, name: str, shard: WholeShard) -> list[dict[str, Any]] | None:
    """The rows of a table if it is whole and of this shard."""
    data = storage.read_bytes(storage.join(uri, name))
    if not name.endswith(f"-{sha256_hex(data)[:12]}.parquet"):
        return None
    facts = facts_of_table(shard.about["layer"], shard.sha256)
    return [dict(row) for row in read_parquet(data).to_pylist()] if facts.items() <= read_facts(data).items() else None


def _rows_of_shard(uri: str, shard: WholeShard) -> Iterator[dict[str, Any]]:
    """A row for each sample of the shard, from its note."""
    file = storage.join(uri, shard.file)
    members = read_index(read_end(file, shard.size_bytes))
    for _, blocks in groupby(read_blocks(file, shard.size_bytes, members), key=_key):
        yield _row_of({block.member: block.data for block in blocks})


def _key(block: Block) -> str:
    return block.member.name.partition(".")[0]


def _row_of(parts: dict[Member, bytes]) -> dict[str, Any]:
    note = json.loads(next(part for member, part in parts.items() if member.name.endswith(".json")))
    same = ("key", "source", "source_sha256", "label", "width_px", "height_px", "masks")
    return {name: note[name] for name in same} | {
        "content_sha256": note.get("content_sha256"),
        "planes": plane_rows(note.get("planes", {})),
        "outcome": "written",
        "members": [vars(member) for member in parts],
        "sample_sha256": sample_sha256((member.name, sha256_hex(part)) for member, part in parts.items()),
    }
