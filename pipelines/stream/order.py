"""Which sample is the p-th of a training: pure functions of integers, nothing stored, nothing read.

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
"""The present one, and the next one, whose first blocks are read ahead."""


class Segment(NamedTuple):
    """Samples that stand side by side in a shard: those in [first, last)."""

    shard: int
    first: int
    last: int


class _Spot(NamedTuple):
    """Where a position lies in its epoch: a sample of a block of a lane."""

    epoch: int
    lane: int
    block: int
    inside: int
    start: int
    """The block's first sample in the laid-out epoch."""
    size: int
    """The block's samples."""


@dataclass(frozen=True)
class Order:
    """The order of samples in shards of these sizes, for all epochs."""

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
        """Samples in an epoch."""
        return sum(self.counts)

    def locate(self, position: int) -> tuple[int, int]:
        """Global position since the start of training -> (shard, sample inside the shard)."""
        spot = self._spot(position)
        permuted = int(_permutation(spot.size, self.seed, "block", spot.epoch, spot.lane, spot.block)[spot.inside])
        shards, ends = self._laid_out(spot.epoch)
        place = bisect_right(ends, spot.start + permuted)
        return int(shards[place]), spot.start + permuted - (ends[place - 1] if place else 0)

    def ahead(self, position: int) -> Iterator[Segment]:
        """Where the position opens a block: what the block after it holds, which will be asked for next in its lane.

        Nothing at other positions, so that of all processes of all ranks exactly one is told.
        """
        spot = self._spot(position)
        if spot.inside == 0:
            yield from self._stretches(self._spot(position + spot.size * self.num_lanes))

    def _spot(self, position: int) -> _Spot:
        epoch, within = divmod(position, self.num_samples)
        index, lane = divmod(within, self.num_lanes)
        block, inside = divmod(index, self.block_size)
        length, longer = divmod(self.num_samples, self.num_lanes)
        start = lane * length + min(lane, longer) + block * self.block_size
        size = min(self.block_size, length + (lane < longer) - block * self.block_size)
        return _Spot(epoch, lane, block, inside, start, size)

    def _stretches(self, spot: _Spot) -> Iterator[Segment]:
        """The samples of a block, shard by shard."""
        shards, ends = self._laid_out(spot.epoch)
        start, stop = spot.start, spot.start + spot.size
        while start < stop:
            place = bisect_right(ends, start)
            before = ends[place - 1] if place else 0
            yield Segment(int(shards[place]), start - before, min(stop, ends[place]) - before)
            start = ends[place]

    def _laid_out(self, epoch: int) -> tuple[NDArray[np.int64], list[int]]:
        """The epoch's shards in their permuted order, and where each of them ends when they are laid end to end."""
        if epoch not in self._epochs:
            shards = _permutation(len(self.counts), self.seed, "shards", epoch)
            if len(self._epochs) == _EPOCHS_KEPT:
                del self._epochs[min(self._epochs)]  # what is kept does not grow
            self._epochs[epoch] = shards, list(accumulate(self.counts[i] for i in shards))
        return self._epochs[epoch]

    @cached_property
    def _epochs(self) -> dict[int, tuple[NDArray[np.int64], list[int]]]:
        return {}


def count_lane_readers(num_lanes: int, world_size: int) -> int:
    """How many ranks read from each lane: one where the world divides the lanes, else they read shards together."""
    return world_size // gcd(world_size, num_lanes)


@lru_cache(maxsize=256)
def _permutation(count: int, *path: int | str) -> NDArray[np.int64]:
    return KeyedRng(*path).permutation(count)
