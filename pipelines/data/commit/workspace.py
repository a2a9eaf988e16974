"""Folder of a build or change in progress, `<out>/.build/<base>`; it is removed after the commit.

Every step writes its files first and a small JSON marker last; a step whose marker exists is not run again. So a killed
build goes on where it stopped, and no step reads half-written files of another.
"""

import json
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import pyarrow as pa

from infra import storage
from pipelines.data.config import DatasetConfig
from pipelines.records import canonical_json

FOLDER: Final = ".build"
FIRST: Final = "new"
"""Base of the first build of a dataset; the base of a change is a commit."""
PHOTOS_PER_BUCKET: Final = 62_500
"""A task holds about as many, 80 MB with all derived data; smaller buckets mean more files to read."""
ROWS_AT_A_TIME: Final = 1024
"""Rows of a table that are Python objects at once, at ten times their size in Arrow."""
_WORD: Final = 8


@dataclass(frozen=True)
class Plan:
    """Settings of a build; small, and the same for every task."""

    root: str
    out: str
    config: DatasetConfig
    seed: int
    mask_files: str | None = None
    """URI of the folder of mask files, for families that are made of them."""
    layer: int = 0
    """0 is the dataset's first build; a later layer adds photos to those that are committed."""
    base: str = FIRST
    """FIRST, or the start of the digest of the commit that the layer is added to."""

    def at(self, *parts: str) -> str:
        """URI of a file in the workspace."""
        return storage.join(self.out, FOLDER, self.base, *parts)

    def run_once(self, marker: str, step: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Run the step unless its marker exists; returns what the first to finish wrote there, and whether it ran."""
        return run_once(self.at(f"{marker}.json"), step)


@dataclass(frozen=True)
class Layout:
    """Spread of photos over shards and buckets, decided once, from the listing. All counts are powers of two."""

    num_files: int
    num_absent: int
    """Files that the source's own list names and the root does not hold."""
    num_absent_chunks: int
    num_chunks: int
    num_scans: int
    """Tasks that read the files; each takes every `num_scans`-th chunk of the listing."""
    num_shards: dict[str, int]
    """Per split."""
    num_digest_buckets: int
    num_earlier: int = 0
    """Inputs of committed layers, with which a further layer is compared."""
    root: dict[str, Any] | None = None
    """Record of the root, as `roots` makes it; None in listings of older versions."""

    @property
    def num_key_buckets(self) -> int:
        """Buckets of keys, over all splits."""
        return round_to_power_of_two(-(-(self.num_files + self.num_earlier) // PHOTOS_PER_BUCKET))

    def list_shards(self, bucket: int) -> list[tuple[str, int]]:
        """Shards (split, number) whose inputs may lie in a bucket of keys: leading bits of digests number both."""
        counts = self.num_shards.items()
        return [
            (split, number) for split, count in counts for number in find_parts(bucket, self.num_key_buckets, count)
        ]


def run_once(marker: str, step: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Run the step unless its marker, a URI, exists; returns the content of the marker, and whether the step ran."""
    if is_new := not storage.exists(marker):
        storage.create(marker, canonical_json(step()))
    return dict(json.loads(storage.read_bytes(marker))), is_new


def round_to_power_of_two(at_least: int) -> int:
    """Smallest power of two that is at least this number."""
    return 1 << max(0, at_least - 1).bit_length()


def find_part(digest: bytes, count: int) -> int:
    """Number of the part, of `count` equal parts of all digests, that holds this digest."""
    return int.from_bytes(digest[:8], "big") * count >> 64


def find_parts(number: int, count: int, num_parts: int) -> range:
    """Range of the parts, of `num_parts`, that overlap the `number`-th of `count` parts; powers of two both."""
    first = number * num_parts // count
    return range(first, max(first + 1, (number + 1) * num_parts // count))


def write_table(uri: str, table: pa.Table) -> None:
    """Publish a table as one file."""
    storage.publish(uri, _to_arrow(table))


def read_stored_table(uri: str) -> pa.Table:
    """Table of a file that `write_table` published; raises FileNotFoundError where it is missing."""
    return _from_arrow(storage.read_bytes(uri))


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows as Python objects, converted some at a time."""
    for batch in table.to_batches(max_chunksize=ROWS_AT_A_TIME):
        yield from batch.to_pylist()


def fields_of(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield these fields of each row, converted some at a time."""
    for batch in table.select(names).to_batches(max_chunksize=ROWS_AT_A_TIME):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _to_arrow(table: pa.Table) -> bytes:
    """Bytes of an Arrow stream: as small as Parquet with zstd, and a short one is written in a third of the time."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _from_arrow(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()


def write_buckets(uri: str, table: pa.Table, bucket_of: Sequence[int], count: int) -> None:
    """Publish the rows of `count` buckets as one file: the start of each bucket, then a stream for each with rows.

    `bucket_of`: bucket of each row. A bucket keeps the order of its rows. With one file per task and not per bucket
    their number grows with the tasks alone; a bucket is a byte range of each.
    """
    buckets = np.asarray(bucket_of, np.int64)
    table, sizes = table.take(np.argsort(buckets, kind="stable")), np.bincount(buckets, minlength=count).tolist()
    ends = array("Q", [(count + 1) * _WORD])
    with storage.scratch_folder(uri.rpartition("/")[0]) as folder:
        with (folder / "buckets").open("wb") as file:  # on disk: the streams may be larger than the rows in memory
            file.seek(ends[0])
            for part in map(table.slice, accumulate(sizes, initial=0), sizes):
                ends.append(ends[-1] + (file.write(_to_arrow(part)) if part.num_rows else 0))
            file.seek(0)
            file.write(struct.pack(f"<{count + 1}Q", *ends))
        storage.publish_file(uri, folder / "buckets")


def read_bucket(uris: Iterable[str], bucket: int, schema: pa.Schema) -> pa.Table:
    """Rows of one bucket out of the files of several tasks, in the order of the files."""
    tables = [schema.empty_table()]
    for uri in uris:
        start, end = struct.unpack("<2Q", storage.read_range(uri, bucket * _WORD, (bucket + 2) * _WORD))
        if end > start:
            tables.append(_from_arrow(storage.read_range(uri, start, end)))
    return pa.concat_tables(tables)
