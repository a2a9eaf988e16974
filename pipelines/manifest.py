"""The manifest of a built dataset: commit record, one row per shard, one table per shard with a row per input.

Written by `pipelines.data`, read by every room after it. Nobody reads it whole: a reader takes the commit record, the
rows of the shards (a few integers each), and the tables of the shards it works on.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from pipelines.records import CorruptDataError, ShardRecord, UsageError, canonical_json, sha256_hex
from pipelines.shard_rows import ShardRows

COMMIT_FILE: Final = "dataset.json"
FORMAT: Final = 1
SUCCESSORS: Final = "successors"
"""The folder of the records that changes made, each under the digest of the one that it came after. They stay: who
reads an old record by chance finds the newest through them."""
_ROOT: Final = "lacuna.root"

_MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.uint32())])
_PLANE = pa.struct([("name", pa.string()), ("reason", pa.string())])  # the latter where it was rejected
TABLE_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("content_sha256", pa.string()),  # of the pixels, where the recipe tells photos apart by them
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
    """A committed dataset: its URI, its commit record and its shards in order of (split, number)."""

    uri: str
    commit: dict[str, Any]
    shards: Sequence[ShardRecord]

    @property
    def name(self) -> str:
        """The name of the source it was built from."""
        return str(self.commit["recipe"]["source"])

    @property
    def manifest_sha256(self) -> str:
        """The dataset digest: what training, scores and versions refer to."""
        return str(self.commit["manifest_sha256"])

    @property
    def root(self) -> dict[str, Any] | None:
        """What the root of the first build held, a record of `data.roots`; None where that is not known."""
        return self.layers[0].get("root")

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What each layer says of itself; the first is the first build."""
        return list(self.commit["layers"])

    def num_shards(self, shard: ShardRecord) -> int:
        """How many shards the layer of this one has in its split."""
        return int(self.layers[shard.layer]["num_shards"][shard.split])

    def only(self, shard: ShardRecord) -> "Dataset":
        """The dataset as if it had this shard alone."""
        return replace(self, shards=(shard,))

    def split(self, name: str) -> ShardRows:
        """The shards of a split, in order; raises UsageError naming the splits there are."""
        shards = ShardRows.from_records(self.shards).where("split", name)
        if shards.numbers("num_samples").sum() == 0:
            filled = sorted({s.split for s in self.shards if s.num_samples})
            raise UsageError(f"no photos in split {name!r} of {self.uri}: it has {', '.join(filled) or 'none at all'}")
        return shards


def hash_manifest(recipe: dict[str, Any], seed: int, shards: Sequence[ShardRecord]) -> str:
    """SHA-256 over recipe, seed and the sorted lines "split number shard-sha256"."""
    lines = sorted(f"{s.split} {s.number} {s.sha256}" for s in shards)
    return sha256_hex("\n".join([canonical_json(recipe).decode(), str(seed), *lines]).encode())


def seal(fields_of_commit: dict[str, Any]) -> bytes:
    """The bytes of a commit record: its fields and the SHA-256 of them."""
    return canonical_json({**fields_of_commit, "sha256": sha256_hex(canonical_json(fields_of_commit))})


def unseal(data: bytes, uri: str) -> dict[str, Any]:
    """The fields of a commit record; raises CorruptDataError where they are not what was sealed."""
    import json

    try:
        record = json.loads(data)
        sealed = record.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CorruptDataError(
            f"{uri} is not a commit record: restore it, or make again what it is the record of"
        ) from None
    if sealed != sha256_hex(canonical_json(record)) or data != seal(record):
        raise CorruptDataError(
            f"{uri} does not match its own digest: restore it, or make again what it is the record of"
        )
    return dict(record)


def hash_commit(commit: dict[str, Any]) -> str:
    """The digest that tells a commit record from all others."""
    return sha256_hex(canonical_json(commit))


def name_successor(commit: dict[str, Any]) -> str:
    """The one name under which a change of this commit can put its record: of two changes only one gets it."""
    return f"{SUCCESSORS}/{hash_commit(commit)[:12]}.json"


def read_commit(uri: str) -> dict[str, Any]:
    """The newest checked commit record of a dataset: `dataset.json`, or what a killed change was to put in its place.

    Raises UsageError where nothing is committed or the format is another, CorruptDataError where a record is torn.
    """
    commit = _read_record(uri, COMMIT_FILE)
    if commit is None:
        raise UsageError(
            f"no dataset at {uri}: {COMMIT_FILE} is missing; build it with `lacuna shard --out {uri}`, or, if there "
            f"was one, make the record again with `lacuna verify {uri} --rebuild`"
        )
    with suppress(PermissionError):  # what a store says of a name that is not there to who may not list them
        while (newer := _read_record(uri, name_successor(commit))) is not None:
            commit = newer
    check_format(uri, commit)
    return commit


def check_format(uri: str, commit: dict[str, Any]) -> None:
    """Raises UsageError where the dataset is of another format than ours."""
    if commit.get("format") != FORMAT:
        raise UsageError(
            f"{uri} has the format {commit.get('format')!r}, and this version of Lacuna reads {FORMAT}: take the "
            "version that wrote it"
        )


def _read_record(uri: str, name: str) -> dict[str, Any] | None:
    record_uri = storage.join(uri, name)
    try:
        return unseal(storage.read_bytes(record_uri), record_uri)
    except FileNotFoundError:
        return None


def open_dataset(uri: str) -> Dataset:
    """Reads and checks commit record and shard rows.

    Raises UsageError where nothing is committed, CorruptDataError where torn.
    """
    commit = read_commit(uri)
    rows = read_checked(storage.join(uri, name_shards_file(commit["shards_sha256"])), commit["shards_sha256"])
    return Dataset(uri, commit, shards_from_parquet(rows))


def read_checked(uri: str, sha256: str) -> bytes:
    """The file's bytes; raises CorruptDataError naming it where they are not those of the digest."""
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise CorruptDataError(f"{uri} is missing: restore it, or make again what it belongs to") from None
    if sha256_hex(data) != sha256:
        raise CorruptDataError(
            f"{uri} is damaged: its SHA-256 is not the recorded {sha256[:12]}…; restore it or build again"
        )
    return data


def name_shards_file(sha256: str) -> str:
    """The name of the file with the shards' rows: by its content, so that a change leaves the old commit readable."""
    return f"shards-{sha256[:12]}.parquet"


def shards_to_parquet(shards: Sequence[ShardRecord], root: dict[str, Any] | None = None) -> bytes:
    """The bytes of that file; with the record of the root, so that it outlives a lost commit record."""
    return table_bytes(ShardRows.from_records(shards).table, {_ROOT: canonical_json(root).decode()} if root else None)


def read_stored_root(data: bytes) -> dict[str, Any] | None:
    """Record of the root that stands in that file, None where none does."""
    import json

    text = read_facts(data).get(_ROOT)
    return dict(json.loads(text)) if text else None


def shards_from_parquet(data: bytes) -> ShardRows:
    """The rows of that file."""
    return ShardRows(read_parquet(data))


def read_table(uri: str, shard: ShardRecord) -> pa.Table:
    """The rows of a shard's inputs, checked against their digest, in the order of their keys."""
    data = read_checked(storage.join(uri, shard.table), shard.table_sha256)
    return read_parquet(data)


def read_parquet(data: bytes) -> pa.Table:
    """The table of a Parquet file in memory, read by this thread alone.

    With pyarrow's own threads one process in four aborts at its end (pyarrow 25: docs/log.md).
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def table_bytes(table: pa.Table, facts: Mapping[str, str] | None = None) -> bytes:
    """A Parquet file in memory; `facts` stand in it beside the rows.

    Without dictionaries, which few columns would gain by and digests only lose.
    """
    sink = io.BytesIO()
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        if facts:
            writer.add_key_value_metadata(dict(facts))
    return sink.getvalue()


def read_facts(data: bytes) -> dict[str, str]:
    """What `table_bytes` was given beside the rows."""
    facts = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).metadata.metadata or {}
    return {name.decode(): value.decode() for name, value in facts.items()}
