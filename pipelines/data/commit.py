"""The records that make a dataset exist: tables and shards are there before, the commit record comes last.

In: shards. Out: a committed `Dataset`. Nothing is overwritten but the commit record itself, at once; who read the
dataset before goes on with the files that the old record names, until they are pruned.
"""

import re
from typing import Any

from infra import storage
from pipelines.manifest import (
    COMMIT_FILE,
    FORMAT,
    Dataset,
    manifest_digest,
    open_dataset,
    seal,
    shards_file,
    shards_to_parquet,
)
from pipelines.records import ShardRecord, sha256_hex


def commit_dataset(
    uri: str, recipe: dict[str, Any], seed: int, layers: list[dict[str, Any]], shards: tuple[ShardRecord, ...]
) -> Dataset:
    """Publishes the rows of the shards, then the record; `layers` says of each its num_shards and what was absent."""
    shards = tuple(sorted(shards, key=lambda s: (s.split, s.layer, s.number)))
    table = shards_to_parquet(shards)
    digest = sha256_hex(table)
    commit = {
        "format": FORMAT,
        "recipe": recipe,
        "seed": seed,
        "num_shards": layers[0]["num_shards"],
        "layers": layers,
        "ledger": ledger_of(shards),
        "shards_sha256": digest,
        "manifest_sha256": manifest_digest(recipe, seed, shards),
    }
    storage.publish(storage.join(uri, shards_file(digest)), table)
    storage.publish(storage.join(uri, COMMIT_FILE), seal(commit))
    return Dataset(uri, commit, shards)


def ledger_of(shards: tuple[ShardRecord, ...]) -> dict[str, int]:
    """What became of all inputs; the numbers sum up to the first of them."""
    outcomes = {
        "num_written": sum(s.num_samples for s in shards),
        "num_duplicates": sum(s.num_duplicates for s in shards),
        "num_rejected": sum(s.num_rejected for s in shards),
        "num_removed": sum(s.num_removed for s in shards),
    }
    return {"num_inputs": sum(outcomes.values()), **outcomes}


def prune(uri: str) -> list[str]:
    """Removes what the commit record does not name: files of older commits, of builds that were given up, of killed
    processes. Returns the names. Readers that opened an older commit then find files missing.
    """
    dataset = open_dataset(uri)
    kept = {name for shard in dataset.shards for name in (shard.file, shard.table)}
    kept |= {shards_file(dataset.commit["shards_sha256"])}
    kept |= {name for layer in dataset.layers for name in layer["absent"]}
    splits = sorted({shard.split for shard in dataset.shards})
    for folder in ("", "tables", *splits):
        storage.sweep(storage.join(uri, folder))
    made_here = _made_here(dataset.name, splits)
    strangers = [name for name, _ in storage.list_files(uri) if made_here.fullmatch(name) and name not in kept]
    for name in strangers:
        storage.remove(storage.join(uri, name))
    return strangers


def _made_here(source: str, splits: list[str]) -> re.Pattern[str]:
    """The names that a build gives; files of others that lie in the folder are not ours to delete."""
    split, end = "|".join(map(re.escape, splits)), r"\d{6,}-[0-9a-f]{12}"
    shards, tables = rf"(?:{split})/{re.escape(source)}-{end}\.tar", rf"tables/(?:{split}|absent)-{end}\.parquet"
    return re.compile(rf"{shards}|{tables}|shards-[0-9a-f]{{12}}\.parquet")
