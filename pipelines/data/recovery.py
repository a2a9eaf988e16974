"""A lost manifest made again from the shards, each of which says in its index what it is and what it holds.

In: the URI of a dataset whose commit record, shard rows or tables are lost. Out: the dataset, committed again, with the
digest that it had. What only the tables knew, duplicates and rejections, comes back where the tables are whole.
"""

import json
import re
from collections import defaultdict
from typing import Any, Final

from infra import storage
from infra.cluster import connected
from pipelines.data.build import Progress, each_task
from pipelines.data.commit import commit_dataset
from pipelines.data.shards import plane_rows, record_of
from pipelines.data.tar import read_about, read_index, sample_sha256
from pipelines.manifest import Dataset, open_dataset, read_parquet
from pipelines.records import Damaged, Member, Refused, ShardRecord, sha256_hex

_SHARD: Final = re.compile(r"([^/]+)/[^/]+-(\d{6,})-([0-9a-f]{12})\.tar")
_ABSENT: Final = re.compile(r"tables/absent-(\d{6,})-[0-9a-f]{12}\.parquet")
_TABLE: Final = re.compile(r"tables/([^/]+-\d{6,})-([0-9a-f]{12})\.parquet")


def recover_dataset(uri: str, progress: Progress) -> Dataset:
    """The dataset at the place, its manifest made again unless it is whole.

    Raises Refused where there is no shard, one is damaged or missing, or two say that they are the same.
    """
    try:
        return open_dataset(uri)
    except (Damaged, Refused):
        names = [name for name, _ in storage.list_files(uri)]
    tables: dict[str, list[str]] = defaultdict(list)
    for match in filter(None, map(_TABLE.fullmatch, names)):
        tables[match[1]].append(match[0])
    tasks = [
        (uri, match[0], tables[f"{match[1]}-{match[2]}"], match[3])
        for match in filter(None, map(_SHARD.fullmatch, names))
    ]
    if not tasks:
        raise Refused(f"no shards at {uri}: nothing to make a manifest from")
    with connected():
        found = each_task("recovering", _recover, tasks, progress)
    layers = _layers(uri, names, found)
    about = found[0][1]
    return commit_dataset(uri, about["recipe"], about["seed"], layers, tuple(shard for shard, _ in found))


def _recover(uri: str, file: str, tables: list[str], digest12: str) -> tuple[ShardRecord, dict[str, Any]]:
    """A shard's record and what its index says, with a table that is whole or made from its samples."""
    data = storage.read_bytes(storage.join(uri, file))
    sha256 = sha256_hex(data)
    if not sha256.startswith(digest12):
        raise Refused(f"{storage.join(uri, file)} is damaged: its SHA-256 is not the one in its name; restore it first")
    about, members = read_about(data), read_index(data)
    rows = next((rows for name in tables if (rows := _whole_table(uri, name, members)) is not None), None)
    if rows is None:
        rows = _rows_of(data, members)
    return record_of(uri, about, file, sha256, len(data), rows), about


def _whole_table(uri: str, name: str, members: list[Member]) -> list[dict[str, Any]] | None:
    """The rows of a table if it is whole and of a shard with these members."""
    data = storage.read_bytes(storage.join(uri, name))
    if not name.endswith(f"-{sha256_hex(data)[:12]}.parquet"):
        return None
    rows = [dict(row) for row in read_parquet(data).to_pylist()]
    return rows if [Member(**m) for row in rows for m in row["members"] or ()] == members else None


def _rows_of(data: bytes, members: list[Member]) -> list[dict[str, Any]]:
    """A row for each sample of the shard, from its note."""
    samples: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        samples[member.name.partition(".")[0]].append(member)
    return [_row_of(data, own) for own in samples.values()]


def _row_of(data: bytes, members: list[Member]) -> dict[str, Any]:
    parts = {member.name: data[member.offset : member.offset + member.size] for member in members}
    note = json.loads(next(part for name, part in parts.items() if name.endswith(".json")))
    same = ("key", "source", "source_sha256", "label", "width_px", "height_px", "masks")
    return {name: note[name] for name in same} | {
        "content_sha256": note.get("content_sha256"),
        "planes": plane_rows(note.get("planes", {})),
        "outcome": "written",
        "members": [vars(member) for member in members],
        "sample_sha256": sample_sha256((name, sha256_hex(part)) for name, part in parts.items()),
    }


def _layers(uri: str, names: list[str], found: list[tuple[ShardRecord, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the shards say of their layers; raises Refused unless each is there once."""
    there: dict[tuple[int, str, int], str] = {}
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for shard, about in found:
        place = (shard.layer, shard.split, shard.number)
        if place in there:
            raise Refused(
                f"{shard.file} and {there[place]} in {uri} both say that they are shard {shard.number} of "
                f"{shard.split}: move away the one that was replaced"
            )
        there[place] = shard.file
        counts[shard.layer][shard.split] = about["num_shards"]
    for layer, splits in counts.items():
        for split, count in splits.items():
            if lost := [n for n in range(count) if (layer, split, n) not in there]:
                raise Refused(f"shard {lost[0]} of {count} of {split} is missing in {uri}: restore it first")
    absent: dict[int, list[str]] = defaultdict(list)
    for match in filter(None, map(_ABSENT.fullmatch, names)):
        absent[min(int(match[1]), max(counts))].append(match[0])  # of merged layers the last one has them all
    return [_layer(uri, counts[layer], absent[layer]) for layer in sorted(counts)]


def _layer(uri: str, num_shards: dict[str, int], absent: list[str]) -> dict[str, Any]:
    tables = [read_parquet(storage.read_bytes(storage.join(uri, name))) for name in absent]
    return {"num_shards": num_shards, "num_absent": sum(t.num_rows for t in tables), "absent": absent}
