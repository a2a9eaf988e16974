"""The records that make a dataset exist: tables and shards are there before, the commit record comes last.

In: shards. Out: a committed `Dataset`. Nothing is overwritten but the commit record itself, at once; who read the
dataset before goes on with the files that the old record names, until they are pruned.

A change is committed where its record becomes the one successor of the record that it stands on: of two changes of one
commit the second is refused. `dataset.json` follows, by whoever comes first: the change itself or, after a kill, the
next one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from infra import storage
from pipelines.data.commit.lock import base_of, change_of, clear_stale
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
    seal,
    shards_to_parquet,
)
from pipelines.records import ShardRecord, UsageError, sha256_hex

_OWN = (f"{FOLDER}/", f"{SUCCESSORS}/", COMMIT_FILE, ".lock")


def describe(
    uri: str, recipe: dict[str, Any], seed: int, layers: list[dict[str, Any]], shards: Iterable[ShardRecord]
) -> Dataset:
    """The dataset of these shards; `layers` says of each its num_shards and what was absent. Nothing is written."""
    rows = tuple(sorted(shards, key=lambda s: (s.split, s.layer, s.number)))
    commit = {
        "format": FORMAT,
        "recipe": recipe,
        "seed": seed,
        "num_shards": layers[0]["num_shards"],
        "layers": layers,
        "ledger": ledger_of(rows),
        "shards_sha256": sha256_hex(shards_to_parquet(rows, layers[0].get("root"))),
        "manifest_sha256": hash_manifest(recipe, seed, rows),
    }
    return Dataset(uri, commit, rows)


def commit_dataset(dataset: Dataset, base: Dataset | None) -> Dataset:
    """Publishes the rows of the shards, then the record, as the first of the place or as what comes after `base`.

    Raises UsageError where another came first; the same one again, by a second process, is no other.
    """
    publish_shards(dataset)
    record = seal(dataset.commit)
    claim = storage.join(dataset.uri, name_successor(base.commit) if base else COMMIT_FILE)
    if not storage.create(claim, record) and storage.read_bytes(claim) != record:
        raise UsageError(f"{dataset.uri} was changed meanwhile, and nothing of this was: run the same command again")
    if base:
        storage.publish(storage.join(dataset.uri, COMMIT_FILE), record)
    return dataset


def publish_shards(dataset: Dataset) -> None:
    """Publishes the rows of the shards alone."""
    name = name_shards_file(dataset.commit["shards_sha256"])
    storage.publish(storage.join(dataset.uri, name), shards_to_parquet(dataset.shards, dataset.root))


def publish_commit(dataset: Dataset) -> None:
    """Makes `dataset.json` this one's, whatever was there: for a record that is lost, or that a killed change owes."""
    storage.publish(storage.join(dataset.uri, COMMIT_FILE), seal(dataset.commit))


def open_to_change(uri: str) -> Dataset:
    """The dataset, after what a change that was killed in its last steps still had to do. Raises UsageError if none.

    Its URI is one that tasks understand, who stand elsewhere.
    """
    uri = storage.to_absolute(uri)
    dataset = open_dataset(uri)
    if storage.read_bytes(storage.join(uri, COMMIT_FILE)) != seal(dataset.commit):
        publish_commit(dataset)
    clear_stale(uri, base_of(dataset))
    return dataset


def ledger_of(shards: Sequence[ShardRecord]) -> dict[str, int]:
    """What became of all inputs; the numbers sum up to the first of them."""
    outcomes = {
        "num_written": sum(s.num_samples for s in shards),
        "num_duplicates": sum(s.num_duplicates for s in shards),
        "num_rejected": sum(s.num_rejected for s in shards),
        "num_removed": sum(s.num_removed for s in shards),
    }
    return {"num_inputs": sum(outcomes.values()), **outcomes}


def named_files(dataset: Dataset) -> set[str]:
    """What the commit record names, by itself or through the list of shards."""
    named = {name for shard in dataset.shards for name in (shard.file, shard.table)}
    named |= {name_shards_file(dataset.commit["shards_sha256"])}
    return named | {name for layer in dataset.layers for name in layer["absent"]}


def list_unnamed_files(dataset: Dataset) -> list[str]:
    """What else lies in the dataset's folder: files of older commits, of builds that were given up, and of others."""
    named = named_files(dataset)
    names = (name for name, _ in storage.list_files(dataset.uri))
    return [name for name in names if name not in named and not name.startswith(_OWN)]


def prune(uri: str) -> list[str]:
    """Removes what the commit record does not name: files of older commits, of builds that were given up, of killed
    processes. Returns the names. Readers that opened an older commit then find files missing.

    Raises UsageError where a change is unfinished: its files are named by nothing yet.
    """
    dataset = open_to_change(uri)
    with change_of(dataset, "--prune"):
        splits = sorted({shard.split for shard in dataset.shards})
        for folder in ("", "tables", *splits):
            storage.sweep(storage.join(uri, folder))
        made_here = _made_here(dataset.name, splits)
        strangers = [name for name in list_unnamed_files(dataset) if made_here.fullmatch(name)]
        for name in strangers:
            storage.remove(storage.join(uri, name))
    return strangers


def _made_here(source: str, splits: list[str]) -> re.Pattern[str]:
    """The names that a build gives; files of others that lie in the folder are not ours to delete."""
    split, end = "|".join(map(re.escape, splits)), r"\d{6,}-[0-9a-f]{12}"
    shards, tables = rf"(?:{split})/{re.escape(source)}-{end}\.tar", rf"tables/(?:{split}|absent)-{end}\.parquet"
    return re.compile(rf"{shards}|{tables}|shards-[0-9a-f]{{12}}\.parquet")
