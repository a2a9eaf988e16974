"""Rebuild of a lost manifest, from the remaining records, else from the index of each shard.

In: the URI of a dataset whose commit record, list of shards or tables are lost. Out: the dataset, committed again, with
its old digest. Duplicates and rejected files stand in tables alone: they are lost with them, and counted.
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
from pipelines.checked_files import read_facts, read_parquet
from pipelines.data.build.pipeline import Progress, run_step
from pipelines.data.build.write_shard import make_plane_rows, make_table, make_table_facts, publish_table
from pipelines.data.commit.commit import commit_dataset, describe_dataset, publish_commit, publish_shards
from pipelines.data.commit.lock import claim_change
from pipelines.data.commit.workspace import find_part, find_parts
from pipelines.data.dataset.blocks import read_blocks, read_end
from pipelines.data.dataset.inventory import (
    Inventory,
    WholeShard,
    find_listed_shards,
    find_newest_commit,
    find_only_list,
    group_layers,
    read_layers,
    select_shards,
    take_inventory,
)
from pipelines.data.shard_tar import hash_sample, read_about, read_index
from pipelines.manifest import COMMIT_FILE, Dataset, read_table
from pipelines.records import CorruptDataError, Member, ShardRecord, UsageError, sha256_hex


@dataclass(frozen=True)
class Recovery:
    """A dataset whose manifest is intact again, and the number of tables that lost rows."""

    dataset: Dataset
    num_tables_without_rejections: int
    """Tables rebuilt from samples alone: their rows of duplicates, rejected and removed photos are lost."""


def recover_dataset(uri: str, progress: Progress) -> Recovery:
    """The dataset at the URI, with its manifest rebuilt unless it is intact.

    Raises UsageError where there is no shard, one is damaged or missing, or the newest shards cannot be determined.
    """
    uri = storage.to_absolute(uri)  # tasks run in other folders
    there = take_inventory(uri)
    if not there.shards:
        raise UsageError(f"no shards at {uri}: give the URI of a dataset that was built")
    with connect_ray():
        dataset, num_lost = _find_dataset(there, progress)
        for name in set(there.torn) - {COMMIT_FILE}:
            storage.remove(storage.join(uri, name))
        if find_listed_shards(there, dataset.commit) is None:
            publish_shards(dataset)
        if there.records.get(COMMIT_FILE) != dataset.commit:
            publish_commit(dataset)
        return _restore_tables(there, dataset, num_lost, progress)


def _find_dataset(there: Inventory, progress: Progress) -> tuple[Dataset, int]:
    """The newest dataset that the files describe, and the number of tables rebuilt to find it."""
    commit = find_newest_commit(there)
    listed = find_listed_shards(there, commit) if commit else None
    if commit and listed is not None:
        return Dataset(there.uri, commit, listed), 0
    tasks = [(there.uri, file, digest12) for file, digest12 in there.shards.items()]
    found = run_step("recovering", _check_shard, tasks, progress)
    only = find_only_list(there, {shard.file for shard in found}) if commit is None else None
    if only is not None:
        about, layers = read_layers(there, only)
        return describe_dataset(there.uri, about["recipe"], about["seed"], layers, only), 0
    return _assemble_dataset(there, commit, found, progress)


def _check_shard(uri: str, file: str, sha256: str) -> WholeShard:
    """A shard with the facts of its index; raises UsageError where its digest does not begin with `sha256`."""
    digest, whole = hashlib.sha256(), storage.join(uri, file)
    size = storage.digest_file(whole, digest)
    if not digest.hexdigest().startswith(sha256):
        raise UsageError(f"{whole} is damaged: its SHA-256 is not the one in its name; restore it first")
    return WholeShard(file, digest.hexdigest(), size, read_about(read_end(whole, size)))


def _assemble_dataset(
    there: Inventory, commit: dict[str, Any] | None, found: list[WholeShard], progress: Progress
) -> tuple[Dataset, int]:
    """The dataset that the shards make up, by the commit record if it is left; and the number of rebuilt tables."""
    # Select the shards and publish their tables.
    about = commit or found[0].about
    layers = commit["layers"] if commit else group_layers(there, [shard.about for shard in found])
    chosen = select_shards(there, found, layers)
    tasks = [(there.uri, shard, there.list_tables(*shard.place[1:])) for shard in chosen]
    made = run_step("making tables", _choose_table, tasks, progress)
    dataset = describe_dataset(there.uri, about["recipe"], about["seed"], layers, tuple(record for record, _ in made))
    # Refuse shards of another commit or dataset.
    if commit and dataset.manifest_sha256 != commit["manifest_sha256"]:
        raise UsageError(
            f"the shards at {there.uri} differ from its commit record: restore the list of shards that it names"
        )
    _refuse_doubles(dataset, progress)
    return dataset, sum(lost for _, lost in made)


def _refuse_doubles(dataset: Dataset, progress: Progress) -> None:
    """Raise UsageError where two shards hold the same key: one belongs to another dataset, or to an older commit."""
    count = max(dataset.num_shards(shard) for shard in dataset.shards)
    meeting: dict[int, list[ShardRecord]] = defaultdict(list)
    for shard in dataset.shards:
        for part in find_parts(shard.number, dataset.num_shards(shard), count):
            meeting[part].append(shard)
    tasks = [(dataset.uri, shards, part, count) for part, shards in meeting.items()]
    for key, first, second in filter(None, run_step("comparing", _find_double, tasks, progress)):
        raise UsageError(f"{first} and {second} in {dataset.uri} both hold {key}: move the replaced one away")


def _find_double(uri: str, shards: list[ShardRecord], part: int, count: int) -> tuple[str, str, str] | None:
    """A key in this part of all keys that two of the shards hold, with their files; None if there is none."""
    holders: dict[str, str] = {}
    for shard in shards:
        table = read_table(uri, shard)
        for key in table.filter(compute.equal(table["outcome"], "written"))["key"].to_pylist():
            if find_part(hashlib.sha256(key.encode()).digest(), count) == part:
                if key in holders:
                    return key, holders[key], shard.file
                holders[key] = shard.file
    return None


def _restore_tables(there: Inventory, dataset: Dataset, num_lost: int, progress: Progress) -> Recovery:
    """The dataset with a new table for each shard whose table is lost or damaged, committed as a change."""
    # Find the shards without an intact table.
    tasks = [(dataset.uri, shard) for shard in dataset.shards]
    torn = list(filter(None, run_step("checking", _find_torn, tasks, progress)))
    if not torn:
        return Recovery(dataset, num_lost)
    # Choose or rebuild their tables, and commit.
    with claim_change(dataset, "--rebuild"):
        mending = [(dataset.uri, shard, there.list_tables(shard.split, shard.number)) for shard in torn]
        mended = dict(run_step("making tables", _mend_table, mending, progress))
        shards = tuple(mended.get(shard.file, shard) for shard in dataset.shards)
        config, seed = dataset.commit["recipe"], dataset.commit["seed"]
        whole = describe_dataset(dataset.uri, config, seed, dataset.layers, shards)
        if whole != dataset:
            commit_dataset(whole, dataset)
    lost = sum(old.table != new.table for old, new in zip(dataset.shards, whole.shards, strict=True))
    return Recovery(whole, num_lost + lost)


def _find_torn(uri: str, shard: ShardRecord) -> ShardRecord | None:
    """The shard if its table is lost or damaged, else None."""
    try:
        read_table(uri, shard)
    except (CorruptDataError, IsADirectoryError):
        return shard
    return None


def _mend_table(uri: str, shard: ShardRecord, tables: list[str]) -> tuple[str, ShardRecord]:
    """File of a shard and its record with a new table."""
    return shard.file, _choose_table(uri, _check_shard(uri, shard.file, shard.sha256), tables)[0]


def _choose_table(uri: str, shard: WholeShard, tables: list[str]) -> tuple[ShardRecord, bool]:
    """A shard's record with the longest intact table of it, else one rebuilt from samples; whether it was rebuilt."""
    own = [rows for name in tables if (rows := _read_table_rows(uri, name, shard)) is not None]
    rows = max(own, key=len) if own else list(_shard_rows(uri, shard))
    return publish_table(uri, shard.about, shard.file, shard.sha256, shard.size_bytes, make_table(rows)), not own


def _read_table_rows(uri: str, name: str, shard: WholeShard) -> list[dict[str, Any]] | None:
    """Rows of a table if it is intact and of this shard, else None."""
    data = storage.read_bytes(storage.join(uri, name))
    if not name.endswith(f"-{sha256_hex(data)[:12]}.parquet"):
        return None
    facts = make_table_facts(shard.about["layer"], shard.sha256)
    return [dict(row) for row in read_parquet(data).to_pylist()] if facts.items() <= read_facts(data).items() else None


def _shard_rows(uri: str, shard: WholeShard) -> Iterator[dict[str, Any]]:
    """Yield a row for each sample of the shard, from its note."""
    file = storage.join(uri, shard.file)
    members = read_index(read_end(file, shard.size_bytes))
    for _, blocks in groupby(
        read_blocks(file, shard.size_bytes, members), key=lambda b: b.member.name.partition(".")[0]
    ):
        yield _make_row({block.member: block.data for block in blocks})


def _make_row(parts: dict[Member, bytes]) -> dict[str, Any]:
    note = json.loads(next(part for member, part in parts.items() if member.name.endswith(".json")))
    same = ("key", "source", "source_sha256", "label", "width_px", "height_px", "masks")
    return {name: note[name] for name in same} | {
        "content_sha256": note.get("content_sha256"),
        "planes": make_plane_rows(note.get("planes", {})),
        "outcome": "written",
        "members": [vars(member) for member in parts],
        "sample_sha256": hash_sample((member.name, sha256_hex(part)) for member, part in parts.items()),
    }
