"""Changes of a committed dataset: photos removed, layers merged; and the search for a photo.

In: a dataset's URI. Out: the changed dataset. Only the shards that a change touches are rewritten, under new names,
from the bytes in the old ones; the commit record is replaced last. Sources are not needed.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from infra import storage
from infra.cluster import connect_ray
from pipelines.data.build.pipeline import Progress, copy_shards, run_step
from pipelines.data.build.timing import BuildStats
from pipelines.data.build.write_shard import ShardId, publish_shard
from pipelines.data.commit.commit import commit_dataset, describe_dataset, open_to_change
from pipelines.data.commit.lock import claim_change, locate_workspace
from pipelines.data.commit.workspace import find_part, find_parts
from pipelines.data.shard_tar import ShardWriter
from pipelines.manifest import Dataset, open_dataset, read_table
from pipelines.records import ShardRecord, UsageError, sha256_hex
from pipelines.stream.reading import ShardReader

_SHOWN: Final = 10


def find_photo(uri: str, key: str) -> list[dict[str, Any]]:
    """Rows of a key in the dataset's tables, each with split, layer and, if written, the shard's file."""
    dataset = open_dataset(uri)
    return [
        {"split": shard.split, "layer": shard.layer, **row, "shard": shard.file if _is_written(row) else None}
        for shard in _find_candidates(dataset, key)
        for row in read_table(uri, shard).to_pylist()
        if row["key"] == key
    ]


def _is_written(row: dict[str, Any]) -> bool:
    return bool(row["outcome"] == "written")


def _find_candidates(dataset: Dataset, key: str) -> list[ShardRecord]:
    """The only shards that may hold a key: one of each layer and split."""
    digest = hashlib.sha256(key.encode()).digest()
    return [s for s in dataset.shards if s.number == find_part(digest, dataset.num_shards(s))]


def remove_photos(uri: str, keys: Iterable[str], progress: Progress, stats: BuildStats | None = None) -> Dataset:
    """The dataset without these photos; their rows stay as `removed`, so that no later layer adds them again.

    Raises UsageError, before anything is written, where the dataset never held one of them, and where another change is
    at work or came first.
    """
    # Find the shards that hold the photos.
    dataset, wanted = open_to_change(uri), frozenset(keys)
    touched = {shard.file: shard for key in wanted for shard in _find_candidates(dataset, key)}
    with connect_ray():
        tasks = [(dataset.uri, shard, wanted) for shard in touched.values()]
        outcomes = run_step("finding", _find_outcomes, tasks, progress)
        _refuse_strangers(uri, wanted, outcomes)
        holders = {file for found in outcomes for outcome, file in found.values() if outcome == "written"}
        if not holders:
            return dataset
        with claim_change(
            dataset, f"--remove of {len(wanted)} photos, {sha256_hex(repr(sorted(wanted)).encode())[:12]}"
        ):
            rewrite = [(dataset.only(touched[file]), wanted) for file in sorted(holders)]
            rewritten = copy_shards("rewriting", _write_without, rewrite, progress, stats or BuildStats())
            kept = (shard for shard in dataset.shards if shard.file not in holders)
            return _commit_shards(dataset, dataset.layers, (*kept, *rewritten))


def _refuse_strangers(uri: str, wanted: frozenset[str], outcomes: list[dict[str, tuple[str, str]]]) -> None:
    """Raise UsageError for keys of photos that were never written, with the reason in the tables if there is one."""
    known = {key for found in outcomes for key, (outcome, _) in found.items() if outcome in ("written", "removed")}
    others = {key: f" ({detail})" for found in outcomes for key, (_, detail) in found.items()}
    if unknown := wanted - known:
        shown = ", ".join(key + others.get(key, "") for key in sorted(unknown)[:_SHOWN])
        raise UsageError(f"{len(unknown)} of {len(wanted)} keys are not in {uri}: {shown}; nothing was changed")


def _commit_shards(dataset: Dataset, layers: list[dict[str, Any]], shards: tuple[ShardRecord, ...]) -> Dataset:
    config, seed = dataset.commit["recipe"], dataset.commit["seed"]
    return commit_dataset(describe_dataset(dataset.uri, config, seed, layers, shards), dataset)


def _find_outcomes(uri: str, shard: ShardRecord, keys: frozenset[str]) -> dict[str, tuple[str, str]]:
    """(outcome, the shard's file if written, else the reason) of the keys that stand in the shard's table."""
    found: dict[str, tuple[str, str]] = {}
    for row in read_table(uri, shard).to_pylist():
        if row["key"] in keys and found.get(row["key"], ("", ""))[0] not in ("written", "removed"):
            detail = shard.file if _is_written(row) else f"{row['outcome']}: {row['reason']}"
            found[row["key"]] = (row["outcome"], detail)
    return found


def _write_without(dataset: Dataset, keys: frozenset[str]) -> ShardRecord:
    """Rewrite the one shard of the dataset without these photos."""
    (shard,) = dataset.shards
    rows = [_to_removed(row) if row["key"] in keys else row for row in _read_rows(dataset, shard)]
    return _publish(dataset, shard.split, shard.number, dataset.num_shards(shard), rows, layer=shard.layer)


def _read_rows(dataset: Dataset, shard: ShardRecord) -> list[dict[str, Any]]:
    """Rows of a shard; written ones have `stored`, (reader, sample), from which their members are read."""
    reader = ShardReader((dataset.only(shard),), shard.split) if shard.num_samples else None
    rows, sample = read_table(dataset.uri, shard).to_pylist(), 0
    for row in rows:
        if _is_written(row):
            row["stored"] = (reader, sample)
            sample += 1
    return list(rows)


def _to_removed(row: dict[str, Any]) -> dict[str, Any]:
    """Row of a removed photo: the columns that identify the photo."""
    if not _is_written(row):
        return row
    kept = {name: row[name] for name in ("key", "source", "source_sha256", "content_sha256", "label")}
    return kept | {"outcome": "removed", "reason": "removed on request"}


def _publish(
    dataset: Dataset, split: str, number: int, num_shards: int, rows: list[dict[str, Any]], layer: int
) -> ShardRecord:
    """Write a shard of these rows, in their order, with copies of the members of written ones."""

    def write(writer: ShardWriter) -> Iterator[dict[str, Any]]:
        for row in rows:
            if "stored" in row:
                reader, sample = row.pop("stored")
                members, digest = writer.add_sample(row["key"], reader.parts(0, sample), {})
                row |= {"members": [vars(member) for member in members], "sample_sha256": digest}
            yield row

    facts = {"recipe": dataset.commit["recipe"], "seed": dataset.commit["seed"], "num_shards": num_shards}
    shard = ShardId(dataset.name, layer, split, number, facts)
    return publish_shard(dataset.uri, storage.join(locate_workspace(dataset), "scratch"), shard, write)


def merge_layers(uri: str, progress: Progress, stats: BuildStats | None = None) -> Dataset:
    """The dataset in one layer, with the shards that its first build would have made of all photos together.

    Raises UsageError where another change is at work or came first.
    """
    dataset = open_to_change(uri)
    if len(dataset.layers) == 1:
        return dataset
    with claim_change(dataset, "--compact"):
        return _merge(dataset, progress, stats or BuildStats())


def _merge(dataset: Dataset, progress: Progress, stats: BuildStats) -> Dataset:
    # Spread the merged shards over the shards of all layers.
    num_shards: dict[str, int] = {}
    for layer in dataset.layers:
        num_shards = {**layer["num_shards"], **num_shards}  # the first layer that has a split decides
    places = [(split, number, count) for split, count in num_shards.items() for number in range(count)]
    by_place = {(shard.layer, shard.split, shard.number): shard for shard in dataset.shards}
    with connect_ray():
        tasks = [(replace(dataset, shards=_find_met_shards(dataset, by_place, *place)), *place) for place in places]
        shards = copy_shards("merging", _write_merged, tasks, progress, stats)
    # Describe the one layer.
    merged = {
        "num_shards": num_shards,
        "num_absent": sum(layer["num_absent"] for layer in dataset.layers),
        "absent": [name for layer in dataset.layers for name in layer["absent"]],
        **{name: record for name, record in dataset.layers[0].items() if name == "root"},
    }
    return _commit_shards(dataset, [merged], shards)


def _find_met_shards(
    dataset: Dataset, by_place: dict[tuple[int, str, int], ShardRecord], split: str, number: int, count: int
) -> tuple[ShardRecord, ...]:
    """Shards of all layers whose keys may belong in this one of `count` shards, in the order of the dataset."""
    there = [(i, layer["num_shards"][split]) for i, layer in enumerate(dataset.layers) if split in layer["num_shards"]]
    return tuple(by_place[i, split, part] for i, own in there for part in find_parts(number, count, own))


def _write_merged(dataset: Dataset, split: str, number: int, count: int) -> ShardRecord:
    """Write a merged shard out of the dataset's shards, which are those with keys of it."""
    rows = [row for shard in dataset.shards for row in _read_rows(dataset, shard)]
    digests = (hashlib.sha256((row["key"] or row["source"]).encode()).digest() for row in rows)
    own = [row for row, digest in zip(rows, digests, strict=True) if find_part(digest, count) == number]
    own.sort(key=lambda row: (row["key"] or "", row["source"]))
    return _publish(dataset, split, number, count, own, layer=0)
