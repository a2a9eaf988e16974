"""Changes of a committed dataset: photos taken out, layers merged; and where a photo lies.

In: a dataset's URI. Out: the dataset as it is afterwards. Only the shards that a change touches are written anew, under
new names, from the bytes in the old ones; the commit record is replaced last. Sources are not needed.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from infra import storage
from infra.cluster import connected
from pipelines.data.build import Progress, copied_shards, each_task
from pipelines.data.commit import commit_dataset
from pipelines.data.effort import Effort
from pipelines.data.shards import ShardId, publish_shard
from pipelines.data.tar import ShardWriter
from pipelines.data.workspace import FOLDER, parts_of, share_of
from pipelines.manifest import Dataset, open_dataset, read_table
from pipelines.records import Refused, ShardRecord
from pipelines.stream.reading import ShardReader

_SHOWN: Final = 10


def find_photo(uri: str, key: str) -> list[dict[str, Any]]:
    """The rows of a key in the dataset's tables, each with its shard's split, layer and file; none if there is none."""
    dataset = open_dataset(uri)
    return [
        {"split": shard.split, "layer": shard.layer, "shard": shard.file, **row}
        for shard in _candidates(dataset, key)
        for row in read_table(uri, shard).to_pylist()
        if row["key"] == key
    ]


def _candidates(dataset: Dataset, key: str) -> list[ShardRecord]:
    """The shards that hold a key if they are to hold it at all: one of each layer and split."""
    digest = hashlib.sha256(key.encode()).digest()
    return [s for s in dataset.shards if s.number == share_of(digest, dataset.num_shards(s))]


def remove_photos(uri: str, keys: Iterable[str], progress: Progress, effort: Effort | None = None) -> Dataset:
    """The dataset without these photos; their rows stay as `removed`, so that no later layer brings them back.

    Raises Refused, before anything is written, where the dataset never held one of them.
    """
    dataset, wanted = open_dataset(uri), set(keys)
    touched = {shard.file: shard for key in wanted for shard in _candidates(dataset, key)}
    with connected():
        tasks = [(uri, shard, frozenset(wanted)) for shard in touched.values()]
        outcomes = each_task("finding", _outcomes, tasks, progress)
        if unknown := wanted - {key for found in outcomes for key in found}:
            shown = ", ".join(sorted(unknown)[:_SHOWN])
            raise Refused(f"{len(unknown)} of {len(wanted)} keys are not in {uri}: {shown}; nothing was changed")
        holders = {found[key] for found in outcomes for key in found} - {""}
        rewrite = [(uri, touched[file], frozenset(wanted)) for file in sorted(holders)]
        rewritten = copied_shards("rewriting", _write_without, rewrite, progress, effort or Effort())
    if rewritten:
        kept = (shard for shard in dataset.shards if shard.file not in holders)
        dataset = _recommitted(dataset, dataset.layers, (*kept, *rewritten))
    _clean_up(uri)
    return dataset


def _recommitted(dataset: Dataset, layers: list[dict[str, Any]], shards: tuple[ShardRecord, ...]) -> Dataset:
    return commit_dataset(dataset.uri, dataset.commit["recipe"], dataset.commit["seed"], layers, shards)


def _clean_up(uri: str) -> None:
    """Removes what a killed change left in the workspace, and an unfinished layer: what it stood on is no more."""
    storage.remove(storage.join(uri, FOLDER))


def _outcomes(uri: str, shard: ShardRecord, keys: frozenset[str]) -> dict[str, str]:
    """Which of the keys the shard holds, as key -> its file, or held, as key -> nothing."""
    rows = (row for row in read_table(uri, shard).to_pylist() if row["key"] in keys)
    files = {"written": shard.file, "removed": ""}
    return {row["key"]: files[row["outcome"]] for row in rows if row["outcome"] in files}


def _write_without(uri: str, shard: ShardRecord, keys: frozenset[str]) -> ShardRecord:
    dataset = open_dataset(uri)
    rows = [_removed(row) if row["key"] in keys else row for row in _rows_with_parts(dataset, shard)]
    return _publish(dataset, shard.split, shard.number, dataset.num_shards(shard), rows, layer=shard.layer)


def _rows_with_parts(dataset: Dataset, shard: ShardRecord) -> list[dict[str, Any]]:
    """The rows of a shard; those that are written know where their members are read: (reader, sample)."""
    reader = ShardReader((dataset.only(shard),), shard.split) if shard.num_samples else None
    rows, sample = read_table(dataset.uri, shard).to_pylist(), 0
    for row in rows:
        if row["outcome"] == "written":
            row["stored"] = (reader, sample)
            sample += 1
    return list(rows)


def _removed(row: dict[str, Any]) -> dict[str, Any]:
    """What is left of a row when its photo goes: enough to know the photo again."""
    if row["outcome"] != "written":
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
    return publish_shard(dataset.uri, ShardId(dataset.name, layer, split, number, facts), write)


def _copied(writer: ShardWriter, row: dict[str, Any]) -> dict[str, Any]:
    reader, sample = row.pop("stored")
    members, digest = writer.add_sample(row["key"], reader.parts(0, sample), {})
    return row | {"members": [vars(member) for member in members], "sample_sha256": digest}


def merge_layers(uri: str, progress: Progress, effort: Effort | None = None) -> Dataset:
    """The dataset in one layer: the shards that its first build would have made of all photos together."""
    dataset = open_dataset(uri)
    if len(dataset.layers) > 1:
        dataset = _merged(dataset, progress, effort or Effort())
    _clean_up(uri)
    return dataset


def _merged(dataset: Dataset, progress: Progress, effort: Effort) -> Dataset:
    num_shards: dict[str, int] = {}
    for layer in dataset.layers:
        num_shards = {**layer["num_shards"], **num_shards}  # the first layer that has a split decides
    places = [(dataset.uri, split, number, count) for split, count in num_shards.items() for number in range(count)]
    with connected():
        shards = copied_shards("merging", _write_merged, places, progress, effort)
    merged = {
        "num_shards": num_shards,
        "num_absent": sum(layer["num_absent"] for layer in dataset.layers),
        "absent": [name for layer in dataset.layers for name in layer["absent"]],
    }
    return _recommitted(dataset, [merged], shards)


def _write_merged(uri: str, split: str, number: int, count: int) -> ShardRecord:
    dataset = open_dataset(uri)
    parts = [
        shard
        for shard in dataset.shards
        if shard.split == split and shard.number in parts_of(number, count, dataset.num_shards(shard))
    ]
    rows = [row for shard in parts for row in _rows_with_parts(dataset, shard)]
    own = [row for row in rows if share_of(hashlib.sha256(_name(row).encode()).digest(), count) == number]
    return _publish(dataset, split, number, count, sorted(own, key=_order), layer=0)


def _name(row: dict[str, Any]) -> str:
    """What an input was placed by: its key, or its path where that made none."""
    return str(row["key"] or row["source"])


def _order(row: dict[str, Any]) -> tuple[str, str]:
    return row["key"] or "", row["source"]
