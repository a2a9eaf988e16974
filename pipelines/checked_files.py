"""Files whose content is checked when they are read: sealed JSON records, files with a known digest, Parquet tables.

In: fields, tables, URIs. Out: bytes, or what was stored. A missing, torn or altered file raises CorruptDataError with
its name.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from pipelines.records import CorruptDataError, canonical_json, sha256_hex


def seal(fields: dict[str, Any]) -> bytes:
    """Bytes of a record: its fields and their SHA-256."""
    return canonical_json({**fields, "sha256": sha256_hex(canonical_json(fields))})


def unseal(data: bytes, uri: str) -> dict[str, Any]:
    """Fields of a sealed record; raises CorruptDataError where they are not as they were sealed."""
    try:
        record = json.loads(data)
        sealed = record.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CorruptDataError(f"{uri} is not a commit record: restore it, or repeat the job that wrote it") from None
    if sealed != sha256_hex(canonical_json(record)) or data != seal(record):
        raise CorruptDataError(f"{uri} does not match its own digest: restore it, or repeat the job that wrote it")
    return dict(record)


def read_checked(uri: str, sha256: str) -> bytes:
    """Bytes of a file; raises CorruptDataError naming it where they do not have this digest."""
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise CorruptDataError(f"{uri} is missing: restore it, or repeat the job that wrote it") from None
    if sha256_hex(data) != sha256:
        raise CorruptDataError(
            f"{uri} is damaged: its SHA-256 is not the recorded {sha256[:12]}…. Restore it or build again"
        )
    return data


def read_parquet(data: bytes) -> pa.Table:
    """Table of a Parquet file in memory, read by this thread alone.

    With pyarrow's own threads one process in four aborts at its end (pyarrow 25: docs/log.md).
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def table_bytes(table: pa.Table, facts: Mapping[str, str] | None = None) -> bytes:
    """Bytes of a Parquet file, with `facts` as its metadata.

    Dictionaries are off: few columns would gain, and columns of digests would grow.
    """
    sink = io.BytesIO()
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        if facts:
            writer.add_key_value_metadata(dict(facts))
    return sink.getvalue()


def read_facts(data: bytes) -> dict[str, str]:
    """Facts that `table_bytes` stored with the rows."""
    facts = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).metadata.metadata or {}
    return {name.decode(): value.decode() for name, value in facts.items()}
