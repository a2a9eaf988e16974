"""Order of samples in a training: the p-th sample by pure functions of integers, nothing stored, nothing read.

The epoch's shards are permuted by a keyed permutation, laid end to end by their sample counts and cut into L lanes of
equal length (the first N mod L lanes are one longer); inside a lane samples are permuted in blocks. Position p of the
epoch is sample p div L of lane p mod L. Rank r of a world takes the positions p with p mod world = r, so the sequence
as a whole does not depend on the world. The state of the stream is one counter: the images seen.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from math import gcd
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng

_EPOCHS_KEPT: Final = 2
"""The present epoch, and the next one, whose first blocks are read ahead."""


class Segment(NamedTuple):
    """Samples [first, last) of a shard, which lie side by side."""

    shard: int
    first: int
    last: int


class _Spot(NamedTuple):
    """Place of a position in its epoch: a sample of a block of a lane."""

    epoch: int
    lane: int
    block: int
    inside: int
    start: int
    """First sample of the block in the epoch laid end to end."""
    size: int
    """Number of samples of the block."""


@dataclass(frozen=True)
class Order:
    """Order of samples in shards of these sizes, for all epochs."""

    counts: tuple[int, ...]
    """Samples per shard, in the order of the manifest."""
    seed: int
    num_lanes: int = 24
    block_size: int = 1024

    def __post_init__(self) -> None:
        if sum(self.counts) < 1 or self.num_lanes < 1 or self.block_size < 1:
            raise ValueError("an order needs at least one sample, one lane and blocks of at least one sample")

    @cached_property
    def num_samples(self) -> int:
        """Number of samples in an epoch."""
        return sum(self.counts)

    def locate(self, position: int) -> tuple[int, int]:
        """Global position since the start of training -> (shard, sample inside the shard)."""
        spot = self._find_spot(position)
        permuted = int(_permute(spot.size, self.seed, "block", spot.epoch, spot.lane, spot.block)[spot.inside])
        shards, ends = self._lay_out(spot.epoch)
        place = bisect_right(ends, spot.start + permuted)
        return int(shards[place]), spot.start + permuted - (ends[place - 1] if place else 0)

    def ahead(self, position: int) -> Iterator[Segment]:
        """Yield the segments of the lane's next block where the position opens a block, nothing elsewhere.

        So exactly one of all processes of all ranks fetches them.
        """
        spot = self._find_spot(position)
        if spot.inside == 0:
            yield from self._segments(self._find_spot(position + spot.size * self.num_lanes))

    def _find_spot(self, position: int) -> _Spot:
        epoch, within = divmod(position, self.num_samples)
        index, lane = divmod(within, self.num_lanes)
        block, inside = divmod(index, self.block_size)
        length, longer = divmod(self.num_samples, self.num_lanes)
        start = lane * length + min(lane, longer) + block * self.block_size
        size = min(self.block_size, length + (lane < longer) - block * self.block_size)
        return _Spot(epoch, lane, block, inside, start, size)

    def _segments(self, spot: _Spot) -> Iterator[Segment]:
        """Yield the samples of a block, shard by shard."""
        shards, ends = self._lay_out(spot.epoch)
        start, stop = spot.start, spot.start + spot.size
        while start < stop:
            place = bisect_right(ends, start)
            before = ends[place - 1] if place else 0
            yield Segment(int(shards[place]), start - before, min(stop, ends[place]) - before)
            start = ends[place]

    def _lay_out(self, epoch: int) -> tuple[NDArray[np.int64], list[int]]:
        """Shards of the epoch in their permuted order, and the end of each when they are laid end to end."""
        if epoch not in self._epochs:
            shards = _permute(len(self.counts), self.seed, "shards", epoch)
            if len(self._epochs) == _EPOCHS_KEPT:
                del self._epochs[min(self._epochs)]  # memory stays constant over epochs
            self._epochs[epoch] = shards, list(accumulate(self.counts[i] for i in shards))
        return self._epochs[epoch]

    @cached_property
    def _epochs(self) -> dict[int, tuple[NDArray[np.int64], list[int]]]:
        return {}


def count_lane_readers(num_lanes: int, world_size: int) -> int:
    """Number of ranks that read from each lane: one where the world size divides the number of lanes."""
    return world_size // gcd(world_size, num_lanes)


@lru_cache(maxsize=256)
def _permute(count: int, *path: int | str) -> NDArray[np.int64]:
    return KeyedRng(*path).permutation(count)
