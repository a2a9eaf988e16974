"""Manifest of a built dataset: commit record, one row per shard, one table per shard with a row per input.

`pipelines.data` writes it, all other packages read it, never whole: a reader takes the commit record, the rows of the
shards (a few integers each), and the tables of the shards it works on.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.checked_files import read_checked, read_facts, read_parquet, table_bytes, unseal
from pipelines.records import ShardRecord, UsageError, canonical_json, sha256_hex
from pipelines.shard_rows import ShardRows

COMMIT_FILE: Final = "dataset.json"
FORMAT: Final = 1
SUCCESSORS: Final = "successors"
"""Folder of the records that changes wrote, each under the digest of the record before it. They are kept: a reader of
an old record finds the newest through them."""
_ROOT: Final = "lacuna.root"

_MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])
_PLANE = pa.struct([("name", pa.string()), ("reason", pa.string())])  # the latter where it was rejected
TABLE_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("content_sha256", pa.string()),  # of the pixels, where the config finds duplicates by them
        ("label", pa.string()),
        ("outcome", pa.string()),  # written, duplicate, rejected, or removed after it had been written
        ("reason", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("members", pa.list_(_MEMBER)),
        ("sample_sha256", pa.string()),
        ("masks", pa.list_(pa.string())),
        ("planes", pa.list_(_PLANE)),
    ]
)


@dataclass(frozen=True)
class Dataset:
    """Committed dataset: its URI, its commit record and its shards in order of (split, number)."""

    uri: str
    commit: dict[str, Any]
    shards: Sequence[ShardRecord]

    @property
    def name(self) -> str:
        """Name of the source that it was built from."""
        return str(self.commit["recipe"]["source"])

    @property
    def manifest_sha256(self) -> str:
        """Digest of the dataset, to which trainings, scores and versions refer."""
        return str(self.commit["manifest_sha256"])

    @property
    def root(self) -> dict[str, Any] | None:
        """Record of the root of the first build, of `pipelines.data.build.roots`; None where it is unknown."""
        return self.layers[0].get("root")

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Records of the layers; the first is the first build."""
        return list(self.commit["layers"])

    def num_shards(self, shard: ShardRecord) -> int:
        """Number of shards that the layer of this shard has in its split."""
        return int(self.layers[shard.layer]["num_shards"][shard.split])

    def only(self, shard: ShardRecord) -> "Dataset":
        """Dataset of this shard alone."""
        return replace(self, shards=(shard,))

    def split(self, name: str) -> ShardRows:
        """Shards of a split, in order; raises UsageError naming the splits that have photos."""
        shards = ShardRows.from_records(self.shards).where("split", name)
        if shards.numbers("num_samples").sum() == 0:
            filled = sorted({s.split for s in self.shards if s.num_samples})
            raise UsageError(f"no photos in split {name!r} of {self.uri}: it has {', '.join(filled) or 'no photos'}")
        return shards


def hash_manifest(recipe: dict[str, Any], seed: int, shards: Sequence[ShardRecord]) -> str:
    """SHA-256 over config, seed and the sorted lines "split number shard-sha256"."""
    lines = sorted(f"{s.split} {s.number} {s.sha256}" for s in shards)
    return sha256_hex("\n".join([canonical_json(recipe).decode(), str(seed), *lines]).encode())


def hash_commit(commit: dict[str, Any]) -> str:
    """Digest of a commit record, by which its successor is named."""
    return sha256_hex(canonical_json(commit))


def name_successor(commit: dict[str, Any]) -> str:
    """Name of the record of a change of this commit: of two changes only one can publish it."""
    return f"{SUCCESSORS}/{hash_commit(commit)[:12]}.json"


def read_commit(uri: str) -> dict[str, Any]:
    """Newest checked commit record of a dataset: `dataset.json`, or its successor that a killed change left.

    Raises UsageError where nothing is committed or the format is another, CorruptDataError where a record is torn.
    """
    commit = _read_record(uri, COMMIT_FILE)
    if commit is None:
        raise UsageError(
            f"no dataset at {uri}: {COMMIT_FILE} is missing. Build it with `lacuna shard --source NAME --out {uri}`, "
            f"or, if there was one, rebuild the record with `lacuna verify {uri} --rebuild`"
        )
    with suppress(PermissionError):  # a store's answer for a missing name where names may not be listed
        while (newer := _read_record(uri, name_successor(commit))) is not None:
            commit = newer
    check_format(uri, commit)
    return commit


def check_format(uri: str, commit: dict[str, Any]) -> None:
    """Raise UsageError where the dataset has another format."""
    if commit.get("format") != FORMAT:
        raise UsageError(
            f"{uri} has the format {commit.get('format')!r}, this version of Lacuna reads {FORMAT}: use the version "
            "that wrote it"
        )


def _read_record(uri: str, name: str) -> dict[str, Any] | None:
    record_uri = storage.join(uri, name)
    try:
        return unseal(storage.read_bytes(record_uri), record_uri)
    except FileNotFoundError:
        return None


def open_dataset(uri: str) -> Dataset:
    """Committed dataset at a URI, its commit record and shard rows checked.

    Raises UsageError where nothing is committed, CorruptDataError where a file is torn.
    """
    commit = read_commit(uri)
    rows = read_checked(storage.join(uri, name_shards_file(commit["shards_sha256"])), commit["shards_sha256"])
    return Dataset(uri, commit, shards_from_parquet(rows))


def name_shards_file(sha256: str) -> str:
    """Name of the file with the shards' rows: by its content, so that a change leaves the old commit readable."""
    return f"shards-{sha256[:12]}.parquet"


def shards_to_parquet(shards: Sequence[ShardRecord], root: dict[str, Any] | None = None) -> bytes:
    """Bytes of the file with the shards' rows; with the record of the root, so that it outlives the commit record."""
    return table_bytes(ShardRows.from_records(shards).table, {_ROOT: canonical_json(root).decode()} if root else None)


def read_stored_root(data: bytes) -> dict[str, Any] | None:
    """Record of the root in the file with the shards' rows, or None."""
    text = read_facts(data).get(_ROOT)
    return dict(json.loads(text)) if text else None


def shards_from_parquet(data: bytes) -> ShardRows:
    """Rows of the file with the shards' rows."""
    return ShardRows(read_parquet(data))


def read_table(uri: str, shard: ShardRecord) -> pa.Table:
    """Rows of a shard's inputs, checked against their digest, in the order of their keys."""
    data = read_checked(storage.join(uri, shard.table), shard.table_sha256)
    return read_parquet(data)
