"""What is left of a dataset's records, and which of it is the newest.

In: the files at a place. Out: the last commit record that is whole, lists of shards, and for shards without a record
what layers they make up. Nothing is written here, and nothing guessed: where two answers are left it is UsageError.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from infra import storage
from pipelines.data.dataset.blocks import read_end
from pipelines.data.shard_tar import read_about
from pipelines.manifest import (
    COMMIT_FILE,
    SUCCESSORS,
    check_format,
    read_parquet,
    read_stored_root,
    name_shards_file,
    shards_from_parquet,
    name_successor,
    unseal,
)
from pipelines.records import CorruptDataError, ShardRecord, UsageError, sha256_hex

_SHARD: Final = re.compile(r"([^/]+)/[^/]+-(\d{6,})-([0-9a-f]{12})\.tar")
_ABSENT: Final = re.compile(r"tables/absent-(\d{6,})-[0-9a-f]{12}\.parquet")
_TABLE: Final = re.compile(r"tables/([^/]+-\d{6,})-[0-9a-f]{12}\.parquet")
_LIST: Final = re.compile(r"shards-([0-9a-f]{12})\.parquet")


def is_shards_file(name: str) -> bool:
    """Whether the name is that of a list of shards, which a commit writes before its record."""
    return _LIST.fullmatch(name) is not None


@dataclass(frozen=True)
class WholeShard:
    """A shard whose bytes are those of its name, and what its index says of it."""

    file: str
    sha256: str
    size_bytes: int
    about: dict[str, Any]

    @property
    def place(self) -> tuple[int, str, int]:
        """Layer, split and number: of a dataset's shards each has its own."""
        return self.about["layer"], self.about["split"], self.about["number"]


@dataclass
class Inventory:
    """The files at a place by what their names say they are."""

    uri: str
    names: list[str]
    shards: dict[str, str] = field(default_factory=dict)
    """Files of shards, with the start of the digest that each has."""
    tables: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Files of tables by "split-number"."""
    absent: list[tuple[int, str]] = field(default_factory=list)
    """(layer, file) of the tables of what was absent."""
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The commit records that are whole, by their files."""
    torn: list[str] = field(default_factory=list)
    """Files of those that are not."""
    lists: dict[str, Sequence[ShardRecord]] = field(default_factory=dict)
    """The lists of shards that are whole, by their files."""
    roots: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """What they say that the root held."""

    def tables_of(self, split: str, number: int) -> list[str]:
        """Files of tables that may be that of a shard."""
        return self.tables[f"{split}-{number:06d}"]


def survivors_at(uri: str) -> Inventory:
    """Looks at all names, and into the records and lists."""
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
            _take_record(there, name)
    return there


def _take_record(there: Inventory, name: str) -> None:
    try:
        there.records[name] = unseal(storage.read_bytes(storage.join(there.uri, name)), name)
    except CorruptDataError:
        there.torn.append(name)


def newest_commit(there: Inventory) -> dict[str, Any] | None:
    """The last commit record, None if none is left.

    Raises UsageError where one that is damaged came after those that are whole, and where its format is another. What
    comes after a whole `dataset.json` and is damaged had not been reported to anybody.
    """
    commit = there.records.get(COMMIT_FILE)
    while commit and (name := name_successor(commit)) in there.records:
        commit = there.records[name]
    if commit is None and there.records:
        last = [record for record in there.records.values() if name_successor(record) not in there.names]
        if len(last) != 1:
            raise UsageError(
                f"{', '.join(there.torn)} in {there.uri}: damaged, and newer than what is whole; restore it"
            )
        (commit,) = last
    if commit:
        check_format(there.uri, commit)
    return commit


def shards_of(there: Inventory, commit: dict[str, Any]) -> Sequence[ShardRecord] | None:
    """The shards that a commit record names, None where their list is lost."""
    return there.lists.get(name_shards_file(commit["shards_sha256"]))


def the_one_list(there: Inventory, files: set[str]) -> Sequence[ShardRecord] | None:
    """The list of which all shards are among the files, None if there is none.

    Raises UsageError where there are more.
    """
    whole = {name: shards for name, shards in there.lists.items() if {shard.file for shard in shards} <= files}
    if len(whole) > 1:
        raise UsageError(
            f"{' and '.join(whole)} in {there.uri} are both whole, and the record that says which is the newer one is "
            "lost: restore it, or move the older of the two away"
        )
    return next(iter(whole.values()), None)


def layers_of(there: Inventory, shards: Sequence[ShardRecord]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What listed shards say of the dataset (recipe, seed), and of its layers: one shard of each is asked."""
    one_of_each = {(shard.layer, shard.split): shard for shard in shards}.values()
    abouts = [read_about(read_end(storage.join(there.uri, s.file), s.size_bytes)) for s in one_of_each]
    layers = layers_by_index(there, abouts)
    root = next((there.roots[name] for name, own in there.lists.items() if own is shards), None)
    return abouts[0], [layers[0] | ({"root": root} if root else {}), *layers[1:]]


def layers_by_index(there: Inventory, abouts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers that shards say they are of."""
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for about in sorted(abouts, key=lambda about: (about["layer"], about["split"])):
        counts[about["layer"]][about["split"]] = about["num_shards"]
    absent: dict[int, list[str]] = defaultdict(list)
    for layer, name in there.absent:
        absent[min(layer, max(counts))].append(name)  # of merged layers the last one has them all
    return [_layer(there.uri, counts[layer], absent[layer]) for layer in sorted(counts)]


def _layer(uri: str, num_shards: dict[str, int], absent: list[str]) -> dict[str, Any]:
    tables = [read_parquet(storage.read_bytes(storage.join(uri, name))) for name in absent]
    return {"num_shards": num_shards, "num_absent": sum(t.num_rows for t in tables), "absent": absent}


def one_of_each(there: Inventory, found: list[WholeShard], layers: list[dict[str, Any]]) -> list[WholeShard]:
    """The shards of these layers, each once: of two the one that no list of a replaced dataset names.

    Raises UsageError where one is missing, and where two are left.
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
        chosen.append(_the_one(there.uri, place, newer or several))
    return chosen


def _the_one(uri: str, place: tuple[int, str, int], shards: list[WholeShard]) -> WholeShard:
    _, split, number = place
    if not shards:
        raise UsageError(f"shard {number} of {split} is missing in {uri}: restore it first")
    if len(shards) > 1:
        raise UsageError(
            f"{' and '.join(shard.file for shard in shards)} in {uri} both say that they are shard {number} of "
            f"{split}, and the records that say which is the newer one are lost: move the older of the two away"
        )
    return shards[0]
