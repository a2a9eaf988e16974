"""Index of a shard: which bytes each sample's members are, as arrays instead of rows.

In: the shard's table. Out: keys and members by the number of the sample. It is small because a process holds the
indexes of all shards that its lanes are in.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from pipelines.records import Member


@dataclass(frozen=True)
class ShardIndex:
    """Samples of a shard, in their order."""

    keys: pa.StringArray
    names: pa.StringArray
    """Names of all members of all samples, one after the other."""
    starts: NDArray[np.int64]
    """First member of each sample, and the end of the last one's."""
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    crc32s: NDArray[np.uint32]

    @staticmethod
    def from_table(table: pa.Table) -> "ShardIndex":
        """Index of a shard's table."""
        written = table.filter(compute.equal(table["outcome"], "written")).combine_chunks()
        lists = _to_array(written["members"])
        names, offsets, sizes, crc32s = lists.flatten().flatten()
        lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        numbers = (a.to_numpy(zero_copy_only=False) for a in (offsets, sizes, crc32s))
        return ShardIndex(_to_array(written["key"]), names, starts, *numbers)

    def key(self, sample: int) -> str:
        """Key of a sample."""
        return str(self.keys[sample])

    def members(self, sample: int) -> dict[str, Member]:
        """Members of a sample by their suffix: `jpg`, `json`, `seg.png`."""
        return {suffix: self.member(i) for suffix, i in self.places(sample).items()}

    def places(self, sample: int) -> dict[str, int]:
        """Indices of a sample's members among all members, by suffix."""
        prefix = len(self.key(sample)) + 1
        return {str(self.names[i])[prefix:]: i for i in range(int(self.starts[sample]), int(self.starts[sample + 1]))}

    def member(self, place: int) -> Member:
        """Member at an index among all members."""
        return Member(str(self.names[place]), int(self.offsets[place]), int(self.sizes[place]), int(self.crc32s[place]))

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Byte range [start, end) that holds the samples [first, last), which lie side by side."""
        low, high = int(self.starts[first]), int(self.starts[last])
        return int(self.offsets[low:high].min()), int((self.offsets[low:high] + self.sizes[low:high]).max())


def _to_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
