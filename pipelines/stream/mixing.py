"""Several datasets as one sequence, by weights: pure functions of integers, as the order of one dataset is.

In: an order for each dataset and a weight for each. Out: which sample the p-th is. Each lane takes from the lane of the
same number of each dataset, in rounds: of every `sum(weights)` samples of a lane, `weights[d]` are the next of dataset
d. So nobody counts anything, every dataset is seen in its own order without a gap, and ranks keep to their lanes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pipelines.keyed_rng import KeyedRng
from pipelines.stream.order import Order, Segment


@dataclass(frozen=True)
class Mixture:
    """The order of samples of several datasets; shards count through all of them."""

    orders: tuple[Order, ...]
    """All with the same number of lanes."""
    weights: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.orders) != len(self.weights) or min(self.weights) < 1 or len(self._lanes) != 1:
            raise ValueError("a mixture needs a weight of at least 1 for each order, and orders of as many lanes")

    @property
    def num_samples(self) -> int:
        """Samples of all datasets."""
        return sum(order.num_samples for order in self.orders)

    def locate(self, position: int) -> tuple[int, int]:
        """Global position -> (shard, sample inside the shard)."""
        dataset, own = self._own(position)
        shard, sample = self.orders[dataset].locate(own)
        return self._first_shard(dataset) + shard, sample

    def ahead(self, position: int) -> Iterator[Segment]:
        """As `Order.ahead`, of the dataset that the position is of."""
        dataset, own = self._own(position)
        first = self._first_shard(dataset)
        for stretch in self.orders[dataset].ahead(own):
            yield stretch._replace(shard=first + stretch.shard)

    @property
    def _lanes(self) -> set[int]:
        return {order.num_lanes for order in self.orders}

    def _own(self, position: int) -> tuple[int, int]:
        """The dataset of a position, and which position it is in that dataset's own order."""
        (num_lanes,) = self._lanes
        row, lane = divmod(position, num_lanes)
        turn, slot = divmod(row, sum(self.weights))
        datasets, counts = _turn(self.weights, self.seed, lane, turn)
        dataset = datasets[slot]
        return dataset, (turn * self.weights[dataset] + counts[slot]) * num_lanes + lane

    def _first_shard(self, dataset: int) -> int:
        return sum(len(order.counts) for order in self.orders[:dataset])


@lru_cache(maxsize=1024)
def _turn(weights: tuple[int, ...], seed: int, lane: int, turn: int) -> tuple[list[int], list[int]]:
    """The datasets of one round of a lane in their order, and how often each had come before in it."""
    every = [dataset for dataset, weight in enumerate(weights) for _ in range(weight)]
    datasets = [every[i] for i in KeyedRng(seed, "mix", lane, turn).permutation(len(every))]
    before: Counter[int] = Counter()
    counts = []
    for dataset in datasets:
        counts.append(before[dataset])
        before[dataset] += 1
    return datasets, counts
