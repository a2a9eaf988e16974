"""Which sample is the p-th of a training: pure functions of integers, nothing stored, nothing read.

The epoch's shards are permuted by a keyed permutation, laid end to end by their sample counts and cut into L lanes of
equal length (the first N mod L lanes are one longer); inside a lane samples are permuted in blocks. Position p of the
epoch is sample p div L of lane p mod L. Rank r of a world takes the positions p with p mod world = r, so the sequence
as a whole does not depend on the world. The state of the stream is one counter: the images seen.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance


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
        epoch, within = divmod(position, self.num_samples)
        index, lane = divmod(within, self.num_lanes)
        start, length = self._lane(lane)
        block, inside = divmod(index, self.block_size)
        size = min(self.block_size, length - block * self.block_size)
        permuted = int(_permutation(size, self.seed, "block", epoch, lane, block)[inside])
        return self._shard_at(epoch, start + block * self.block_size + permuted)

    def _lane(self, lane: int) -> tuple[int, int]:
        """First sample and length of a lane of the laid-out epoch."""
        length, longer = divmod(self.num_samples, self.num_lanes)
        return lane * length + min(lane, longer), length + (lane < longer)

    def _shard_at(self, epoch: int, sample: int) -> tuple[int, int]:
        """The shard that covers this sample of the laid-out epoch, and the place inside it."""
        shards, ends = self._laid_out(epoch)
        place = bisect_right(ends, sample)
        return int(shards[place]), sample - (ends[place - 1] if place else 0)

    def _laid_out(self, epoch: int) -> tuple[NDArray[np.int64], list[int]]:
        """The epoch's shards in their permuted order, and where each of them ends when they are laid end to end."""
        if epoch not in self._epochs:
            shards = _permutation(len(self.counts), self.seed, "shards", epoch)
            self._epochs.clear()  # one epoch at a time: what is kept does not grow
            self._epochs[epoch] = shards, list(accumulate(self.counts[i] for i in shards))
        return self._epochs[epoch]

    @cached_property
    def _epochs(self) -> dict[int, tuple[NDArray[np.int64], list[int]]]:
        return {}


@lru_cache(maxsize=256)
def _permutation(count: int, *path: int | str) -> NDArray[np.int64]:
    return Chance(*path).permutation(count)
