"""Changes of a committed dataset: photos taken out, layers merged; and where a photo lies.

In: a dataset's URI. Out: the dataset as it is afterwards. Only the shards that a change touches are written anew, under
new names, from the bytes in the old ones; the commit record is replaced last. Sources are not needed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from infra import storage
from infra.cluster import connect_ray
from pipelines.data.build.pipeline import Progress, copied_shards, each_task
from pipelines.data.build.timing import BuildStats
from pipelines.data.build.write_shard import ShardId, publish_shard
from pipelines.data.commit.commit import commit_dataset, describe, open_to_change
from pipelines.data.commit.lock import change_of, workspace_of
from pipelines.data.commit.workspace import parts_of, share_of
from pipelines.data.shard_tar import ShardWriter
from pipelines.manifest import Dataset, open_dataset, read_table
from pipelines.records import ShardRecord, UsageError, sha256_hex
from pipelines.stream.reading import ShardReader

_SHOWN: Final = 10


def find_photo(uri: str, key: str) -> list[dict[str, Any]]:
    """The rows of a key in the dataset's tables, each with split, layer and, where it is written, the shard's file."""
    dataset = open_dataset(uri)
    return [
        {"split": shard.split, "layer": shard.layer, **row, "shard": shard.file if _is_written(row) else None}
        for shard in _candidates(dataset, key)
        for row in read_table(uri, shard).to_pylist()
        if row["key"] == key
    ]


def _is_written(row: dict[str, Any]) -> bool:
    return bool(row["outcome"] == "written")


def _candidates(dataset: Dataset, key: str) -> list[ShardRecord]:
    """The shards that hold a key if they are to hold it at all: one of each layer and split."""
    digest = hashlib.sha256(key.encode()).digest()
    return [s for s in dataset.shards if s.number == share_of(digest, dataset.num_shards(s))]


def remove_photos(uri: str, keys: Iterable[str], progress: Progress, effort: BuildStats | None = None) -> Dataset:
    """The dataset without these photos; their rows stay as `removed`, so that no later layer brings them back.

    Raises UsageError, before anything is written, where the dataset never held one of them, and where another change is
    at work or came first.
    """
    dataset, wanted = open_to_change(uri), frozenset(keys)
    touched = {shard.file: shard for key in wanted for shard in _candidates(dataset, key)}
    with connect_ray():
        tasks = [(dataset.uri, shard, wanted) for shard in touched.values()]
        outcomes = each_task("finding", _outcomes, tasks, progress)
        _refuse_strangers(uri, wanted, outcomes)
        holders = {file for found in outcomes for outcome, file in found.values() if outcome == "written"}
        if not holders:
            return dataset
        with change_of(dataset, f"--remove of {len(wanted)} photos, {sha256_hex(repr(sorted(wanted)).encode())[:12]}"):
            rewrite = [(dataset.only(touched[file]), wanted) for file in sorted(holders)]
            rewritten = copied_shards("rewriting", _write_without, rewrite, progress, effort or BuildStats())
            kept = (shard for shard in dataset.shards if shard.file not in holders)
            return _recommitted(dataset, dataset.layers, (*kept, *rewritten))


def _refuse_strangers(uri: str, wanted: frozenset[str], outcomes: list[dict[str, tuple[str, str]]]) -> None:
    """Raises UsageError where a key is of no photo that is or was written, saying what is known of it."""
    known = {key for found in outcomes for key, (outcome, _) in found.items() if outcome in ("written", "removed")}
    others = {key: f" ({told})" for found in outcomes for key, (_, told) in found.items()}
    if unknown := wanted - known:
        shown = ", ".join(key + others.get(key, "") for key in sorted(unknown)[:_SHOWN])
        raise UsageError(f"{len(unknown)} of {len(wanted)} keys are not in {uri}: {shown}; nothing was changed")


def _recommitted(dataset: Dataset, layers: list[dict[str, Any]], shards: tuple[ShardRecord, ...]) -> Dataset:
    recipe, seed = dataset.commit["recipe"], dataset.commit["seed"]
    return commit_dataset(describe(dataset.uri, recipe, seed, layers, shards), dataset)


def _outcomes(uri: str, shard: ShardRecord, keys: frozenset[str]) -> dict[str, tuple[str, str]]:
    """What became of those keys of which the shard's table tells: (outcome, the shard's file if written, else why)."""
    found: dict[str, tuple[str, str]] = {}
    for row in read_table(uri, shard).to_pylist():
        if row["key"] in keys and found.get(row["key"], ("", ""))[0] not in ("written", "removed"):
            told = shard.file if _is_written(row) else f"{row['outcome']}: {row['reason']}"
            found[row["key"]] = (row["outcome"], told)
    return found


def _write_without(dataset: Dataset, keys: frozenset[str]) -> ShardRecord:
    """The one shard of the dataset without these photos."""
    (shard,) = dataset.shards
    rows = [_removed(row) if row["key"] in keys else row for row in _rows_with_parts(dataset, shard)]
    return _publish(dataset, shard.split, shard.number, dataset.num_shards(shard), rows, layer=shard.layer)


def _rows_with_parts(dataset: Dataset, shard: ShardRecord) -> list[dict[str, Any]]:
    """The rows of a shard; those that are written know where their members are read: (reader, sample)."""
    reader = ShardReader((dataset.only(shard),), shard.split) if shard.num_samples else None
    rows, sample = read_table(dataset.uri, shard).to_pylist(), 0
    for row in rows:
        if _is_written(row):
            row["stored"] = (reader, sample)
            sample += 1
    return list(rows)


def _removed(row: dict[str, Any]) -> dict[str, Any]:
    """What is left of a row when its photo goes: enough to know the photo again."""
    if not _is_written(row):
        return row
    kept = {name: row[name] for name in ("key", "source", "source_sha256", "content_sha256", "label")}
    return kept | {"outcome": "removed", "reason": "removed on request"}


def _publish(
    dataset: Dataset, split: str, number: int, num_shards: int, rows: list[dict[str, Any]], layer: int
) -> ShardRecord:
    """Writes a shard of these rows, in their order, copying the members of those that are written."""

    def write(writer: ShardWriter) -> list[dict[str, Any]]:
        return [_copied(writer, row) if "stored" in row else row for row in rows]

    facts = {"recipe": dataset.commit["recipe"], "seed": dataset.commit["seed"], "num_shards": num_shards}
    shard = ShardId(dataset.name, layer, split, number, facts)
    return publish_shard(dataset.uri, storage.join(workspace_of(dataset), "scratch"), shard, write)


def _copied(writer: ShardWriter, row: dict[str, Any]) -> dict[str, Any]:
    reader, sample = row.pop("stored")
    members, digest = writer.add_sample(row["key"], reader.parts(0, sample), {})
    return row | {"members": [vars(member) for member in members], "sample_sha256": digest}


def merge_layers(uri: str, progress: Progress, effort: BuildStats | None = None) -> Dataset:
    """The dataset in one layer: the shards that its first build would have made of all photos together.

    Raises UsageError where another change is at work or came first.
    """
    dataset = open_to_change(uri)
    if len(dataset.layers) == 1:
        return dataset
    with change_of(dataset, "--compact"):
        return _merged(dataset, progress, effort or BuildStats())


def _merged(dataset: Dataset, progress: Progress, effort: BuildStats) -> Dataset:
    num_shards: dict[str, int] = {}
    for layer in dataset.layers:
        num_shards = {**layer["num_shards"], **num_shards}  # the first layer that has a split decides
    places = [(split, number, count) for split, count in num_shards.items() for number in range(count)]
    by_place = {(shard.layer, shard.split, shard.number): shard for shard in dataset.shards}
    with connect_ray():
        tasks = [(replace(dataset, shards=_met(dataset, by_place, *place)), *place) for place in places]
        shards = copied_shards("merging", _write_merged, tasks, progress, effort)
    merged = {
        "num_shards": num_shards,
        "num_absent": sum(layer["num_absent"] for layer in dataset.layers),
        "absent": [name for layer in dataset.layers for name in layer["absent"]],
        **{name: record for name, record in dataset.layers[0].items() if name == "root"},
    }
    return _recommitted(dataset, [merged], shards)


def _met(
    dataset: Dataset, by_place: dict[tuple[int, str, int], ShardRecord], split: str, number: int, count: int
) -> tuple[ShardRecord, ...]:
    """The shards of all layers whose keys may belong in this one of `count` shards, in the order of the dataset."""
    there = [(i, layer["num_shards"][split]) for i, layer in enumerate(dataset.layers) if split in layer["num_shards"]]
    return tuple(by_place[i, split, part] for i, own in there for part in parts_of(number, count, own))


def _write_merged(dataset: Dataset, split: str, number: int, count: int) -> ShardRecord:
    """Writes the merged shard out of the dataset's, which are those that it meets."""
    rows = [row for shard in dataset.shards for row in _rows_with_parts(dataset, shard)]
    own = [row for row in rows if share_of(hashlib.sha256(_name(row).encode()).digest(), count) == number]
    return _publish(dataset, split, number, count, sorted(own, key=_order), layer=0)


def _name(row: dict[str, Any]) -> str:
    """What an input was placed by: its key, or its path where that made none."""
    return str(row["key"] or row["source"])


def _order(row: dict[str, Any]) -> tuple[str, str]:
    return row["key"] or "", row["source"]
