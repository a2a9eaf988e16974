"""Remaining files of a dataset, and the newest of its records.

In: the files at a URI. Out: the last intact commit record, lists of shards, and the layers that shards without a record
make up. Nothing is written and nothing guessed: where two answers remain, UsageError is raised.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from infra import storage
from pipelines.checked_files import read_parquet, unseal
from pipelines.data.dataset.blocks import read_end
from pipelines.data.shard_tar import read_about
from pipelines.manifest import (
    COMMIT_FILE,
    SUCCESSORS,
    check_format,
    name_shards_file,
    name_successor,
    read_stored_root,
    shards_from_parquet,
)
from pipelines.records import CorruptDataError, ShardRecord, UsageError, sha256_hex

_SHARD: Final = re.compile(r"([^/]+)/[^/]+-(\d{6,})-([0-9a-f]{12})\.tar")
_ABSENT: Final = re.compile(r"tables/absent-(\d{6,})-[0-9a-f]{12}\.parquet")
_TABLE: Final = re.compile(r"tables/([^/]+-\d{6,})-[0-9a-f]{12}\.parquet")
_LIST: Final = re.compile(r"shards-([0-9a-f]{12})\.parquet")


@dataclass(frozen=True)
class WholeShard:
    """A shard whose bytes match the digest in its name, with the facts of its index."""

    file: str
    sha256: str
    size_bytes: int
    about: dict[str, Any]

    @property
    def place(self) -> tuple[int, str, int]:
        """Layer, split and number, unique within a dataset."""
        return self.about["layer"], self.about["split"], self.about["number"]


@dataclass
class Inventory:
    """The files at a URI, sorted by the kind that their names state."""

    uri: str
    names: list[str]
    shards: dict[str, str] = field(default_factory=dict)
    """Files of shards, each with the start of its digest."""
    tables: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Files of tables by "split-number"."""
    absent: list[tuple[int, str]] = field(default_factory=list)
    """(layer, file) of the tables of absent files."""
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Intact commit records, by their files."""
    torn: list[str] = field(default_factory=list)
    """Files of damaged commit records."""
    lists: dict[str, Sequence[ShardRecord]] = field(default_factory=dict)
    """Intact lists of shards, by their files."""
    roots: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Records of the root in these lists."""

    def list_tables(self, split: str, number: int) -> list[str]:
        """Files of tables that may belong to a shard."""
        return self.tables[f"{split}-{number:06d}"]


def take_inventory(uri: str) -> Inventory:
    """Inventory of a URI, from all names and the content of records and lists."""
    there = Inventory(uri, [name for name, _ in storage.list_files(uri)] if storage.exists(uri) else [])
    for name in there.names:
        if match := _SHARD.fullmatch(name):
            there.shards[name] = match[3]
        elif match := _ABSENT.fullmatch(name):
            there.absent.append((int(match[1]), name))
        elif match := _TABLE.fullmatch(name):
            there.tables[match[1]].append(name)
        elif match := _LIST.fullmatch(name):
            data = storage.read_bytes(storage.join(uri, name))
            if sha256_hex(data).startswith(match[1]):
                there.lists[name], there.roots[name] = shards_from_parquet(data), read_stored_root(data)
        elif name == COMMIT_FILE or name.startswith(f"{SUCCESSORS}/"):
            try:
                there.records[name] = unseal(storage.read_bytes(storage.join(uri, name)), name)
            except CorruptDataError:
                there.torn.append(name)
    return there


def find_newest_commit(there: Inventory) -> dict[str, Any] | None:
    """The last intact commit record, None if none is left.

    Raises UsageError where a damaged one came after it, or its format is unknown. A damaged successor of an intact
    `dataset.json` does not count: its change was never reported as done.
    """
    commit = there.records.get(COMMIT_FILE)
    while commit and (name := name_successor(commit)) in there.records:
        commit = there.records[name]
    if commit is None and there.records:
        last = [record for record in there.records.values() if name_successor(record) not in there.names]
        if len(last) != 1:
            raise UsageError(
                f"{', '.join(there.torn)} in {there.uri} is damaged and newer than all intact records: restore it"
            )
        (commit,) = last
    if commit:
        check_format(there.uri, commit)
    return commit


def find_listed_shards(there: Inventory, commit: dict[str, Any]) -> Sequence[ShardRecord] | None:
    """The shards of a commit record, None where their list is lost."""
    return there.lists.get(name_shards_file(commit["shards_sha256"]))


def find_only_list(there: Inventory, files: set[str]) -> Sequence[ShardRecord] | None:
    """The list of which all shards are among the files, None if there is none.

    Raises UsageError where there are several.
    """
    whole = {name: shards for name, shards in there.lists.items() if {shard.file for shard in shards} <= files}
    if len(whole) > 1:
        raise UsageError(
            f"{' and '.join(whole)} in {there.uri} are both intact, and the record that names the newer one is lost: "
            "restore it, or move the older list away"
        )
    return next(iter(whole.values()), None)


def read_layers(there: Inventory, shards: Sequence[ShardRecord]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Facts of the dataset (recipe, seed) and its layers, from the index of one shard per layer and split."""
    samples = {(shard.layer, shard.split): shard for shard in shards}.values()
    abouts = [read_about(read_end(storage.join(there.uri, s.file), s.size_bytes)) for s in samples]
    layers = group_layers(there, abouts)
    root = next((there.roots[name] for name, own in there.lists.items() if own is shards), None)
    return abouts[0], [layers[0] | ({"root": root} if root else {}), *layers[1:]]


def group_layers(there: Inventory, abouts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Facts of each layer, from the facts of its shards."""
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for about in sorted(abouts, key=lambda about: (about["layer"], about["split"])):
        counts[about["layer"]][about["split"]] = about["num_shards"]
    absent: dict[int, list[str]] = defaultdict(list)
    for layer, name in there.absent:
        absent[min(layer, max(counts))].append(name)  # the last of merged layers has them all
    layers = []
    for layer in sorted(counts):
        tables = [read_parquet(storage.read_bytes(storage.join(there.uri, name))) for name in absent[layer]]
        num_absent = sum(table.num_rows for table in tables)
        layers.append({"num_shards": counts[layer], "num_absent": num_absent, "absent": absent[layer]})
    return layers


def select_shards(there: Inventory, found: list[WholeShard], layers: list[dict[str, Any]]) -> list[WholeShard]:
    """The shards of these layers, each once: of two the one that is in no list of a replaced dataset.

    Raises UsageError where one is missing, and where two remain.
    """
    listed = {shard.file for shards in there.lists.values() for shard in shards}
    by_place: dict[tuple[int, str, int], list[WholeShard]] = defaultdict(list)
    for shard in found:
        by_place[shard.place].append(shard)
    chosen = []
    for place in (
        (layer, split, number)
        for layer, said in enumerate(layers)
        for split, count in said["num_shards"].items()
        for number in range(count)
    ):
        several = by_place[place]
        newer = [shard for shard in several if shard.file not in listed] if len(several) > 1 else several
        chosen.append(_require_one(there.uri, place, newer or several))
    return chosen


def _require_one(uri: str, place: tuple[int, str, int], shards: list[WholeShard]) -> WholeShard:
    _, split, number = place
    if not shards:
        raise UsageError(f"shard {number} of {split} is missing in {uri}: restore its file first")
    if len(shards) > 1:
        raise UsageError(
            f"{' and '.join(shard.file for shard in shards)} in {uri} both claim to be shard {number} of {split}, and "
            "the records that name the newer one are lost: move the older file away"
        )
    return shards[0]
