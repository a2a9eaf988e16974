"""Rows of a dataset's shards as a sequence of records that are made on demand.

In: the table of the manifest. Out: `ShardRecord`s one by one, and whole columns of numbers. A process that reads a few
of a million shards holds a hundred bytes for each of the others, not an object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from pipelines.records import ShardRecord

_SCHEMA = pa.schema(
    [(field.name, {"int": pa.int64(), "str": pa.string()}[str(field.type)]) for field in fields(ShardRecord)]
)


class ShardRows(Sequence[ShardRecord]):
    """Records of shards, in the order of the table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()

    @staticmethod
    def from_records(records: Sequence[ShardRecord]) -> "ShardRows":
        """Rows of these records."""
        if isinstance(records, ShardRows):
            return records
        columns = {name: [getattr(record, name) for record in records] for name in _SCHEMA.names}
        return ShardRows(pa.table(columns, _SCHEMA))

    @property
    def table(self) -> pa.Table:
        """Table with a row per shard."""
        return self._table

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Column of integers."""
        return np.asarray(self._table[name].to_numpy(), np.int64)

    def where(self, name: str, value: object) -> "ShardRows":
        """Rows whose field has the value."""
        return ShardRows(self._table.filter(compute.equal(self._table[name], value)))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> ShardRecord: ...

    @overload
    def __getitem__(self, index: slice) -> "ShardRows": ...

    def __getitem__(self, index: int | slice) -> "ShardRecord | ShardRows":
        if isinstance(index, slice):
            return ShardRows(self._table.take(np.arange(*index.indices(len(self)))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        (row,) = self._table.slice(index % len(self), 1).to_pylist()
        return ShardRecord(**row)

    def __iter__(self) -> Iterator[ShardRecord]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from (ShardRecord(**row) for row in batch.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
