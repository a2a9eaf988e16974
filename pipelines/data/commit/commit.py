"""Records that make a dataset exist: tables and shards are written before, the commit record comes last.

In: shards. Out: a committed `Dataset`. Only the commit record is overwritten, at once; readers that opened the dataset
before go on with the files of the old record, until they are pruned.

A change is committed when its record becomes the one successor of the record that it is based on: of two changes of one
commit the second is refused. `dataset.json` follows, written by the change itself or, after a kill, by the next one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from infra import storage
from pipelines.checked_files import seal
from pipelines.data.commit.lock import claim_change, get_base_name, remove_stale_workspaces
from pipelines.data.commit.workspace import FOLDER
from pipelines.manifest import (
    COMMIT_FILE,
    FORMAT,
    SUCCESSORS,
    Dataset,
    hash_manifest,
    name_shards_file,
    name_successor,
    open_dataset,
    shards_to_parquet,
)
from pipelines.records import ShardRecord, UsageError, sha256_hex

_SHARDS = re.compile(r"shards-[0-9a-f]{12}\.parquet")
_OWN = (f"{FOLDER}/", f"{SUCCESSORS}/", COMMIT_FILE, ".lock")


def describe_dataset(
    uri: str, config: dict[str, Any], seed: int, layers: list[dict[str, Any]], shards: Iterable[ShardRecord]
) -> Dataset:
    """The dataset of these shards, without writing anything; `layers` holds num_shards and absent files of each."""
    rows = tuple(sorted(shards, key=lambda s: (s.split, s.layer, s.number)))
    commit = {
        "format": FORMAT,
        "recipe": config,
        "seed": seed,
        "num_shards": layers[0]["num_shards"],
        "layers": layers,
        "ledger": sum_ledger(rows),
        "shards_sha256": sha256_hex(shards_to_parquet(rows, layers[0].get("root"))),
        "manifest_sha256": hash_manifest(config, seed, rows),
    }
    return Dataset(uri, commit, rows)


def commit_dataset(dataset: Dataset, base: Dataset | None) -> Dataset:
    """Publish the rows of the shards, then the record, as the first one or as the successor of `base`.

    Raises UsageError where another change came first; the same record from a second process is accepted.
    """
    publish_shards(dataset)
    record = seal(dataset.commit)
    claim = storage.join(dataset.uri, name_successor(base.commit) if base else COMMIT_FILE)
    if not storage.create(claim, record) and storage.read_bytes(claim) != record:
        raise UsageError(f"{dataset.uri} was changed meanwhile; this change was not made: run the same command again")
    if base:
        storage.publish(storage.join(dataset.uri, COMMIT_FILE), record)
    return dataset


def publish_shards(dataset: Dataset) -> None:
    """Publish the rows of the shards alone."""
    name = name_shards_file(dataset.commit["shards_sha256"])
    storage.publish(storage.join(dataset.uri, name), shards_to_parquet(dataset.shards, dataset.root))


def is_shards_file(name: str) -> bool:
    """Whether a file name is that of a list of shards, which a commit publishes before its record."""
    return _SHARDS.fullmatch(name) is not None


def publish_commit(dataset: Dataset) -> None:
    """Overwrite `dataset.json`: for a record that is lost, or that a killed change did not write."""
    storage.publish(storage.join(dataset.uri, COMMIT_FILE), seal(dataset.commit))


def open_to_change(uri: str) -> Dataset:
    """The dataset with an absolute URI, after the last steps of a change that was killed in them.

    Raises UsageError where there is no dataset.
    """
    uri = storage.to_absolute(uri)
    dataset = open_dataset(uri)
    if storage.read_bytes(storage.join(uri, COMMIT_FILE)) != seal(dataset.commit):
        publish_commit(dataset)
    remove_stale_workspaces(uri, get_base_name(dataset))
    return dataset


def sum_ledger(shards: Sequence[ShardRecord]) -> dict[str, int]:
    """Ledger: number of all inputs and of each outcome, which sum up to it."""
    outcomes = {
        "num_written": sum(s.num_samples for s in shards),
        "num_duplicates": sum(s.num_duplicates for s in shards),
        "num_rejected": sum(s.num_rejected for s in shards),
        "num_removed": sum(s.num_removed for s in shards),
    }
    return {"num_inputs": sum(outcomes.values()), **outcomes}


def list_named_files(dataset: Dataset) -> set[str]:
    """Files that the commit record names, by itself or through the list of shards."""
    named = {name for shard in dataset.shards for name in (shard.file, shard.table)}
    named |= {name_shards_file(dataset.commit["shards_sha256"])}
    return named | {name for layer in dataset.layers for name in layer["absent"]}


def list_unnamed_files(dataset: Dataset) -> list[str]:
    """Other files in the dataset's folder: of older commits, of abandoned builds, and foreign ones."""
    named = list_named_files(dataset)
    names = (name for name, _ in storage.list_files(dataset.uri))
    return [name for name in names if name not in named and not name.startswith(_OWN)]


def prune(uri: str) -> list[str]:
    """Remove files of older commits, abandoned builds and killed processes; returns their names.

    Readers that opened an older commit then miss files. Raises UsageError where a change is unfinished: no record names
    its files yet.
    """
    dataset = open_to_change(uri)
    with claim_change(dataset, "--prune"):
        splits = sorted({shard.split for shard in dataset.shards})
        for folder in ("", "tables", *splits):
            storage.sweep(storage.join(uri, folder))
        # Foreign files in the folder must not be deleted, only those with names that a build gives.
        split, end = "|".join(map(re.escape, splits)), r"\d{6,}-[0-9a-f]{12}"
        shards, tables = (
            rf"(?:{split})/{re.escape(dataset.name)}-{end}\.tar",
            rf"tables/(?:{split}|absent)-{end}\.parquet",
        )
        made_here = re.compile(rf"{shards}|{tables}|{_SHARDS.pattern}")
        strangers = [name for name in list_unnamed_files(dataset) if made_here.fullmatch(name)]
        for name in strangers:
            storage.remove(storage.join(uri, name))
    return strangers
