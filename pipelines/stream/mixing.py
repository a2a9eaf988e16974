"""Several datasets as one sequence, by weights: pure functions of integers, as the order of one dataset is.

In: an order and a weight for each dataset. Out: the p-th sample. Each lane takes from the lane of the same number of
each dataset, in rounds: of every `sum(weights)` samples of a lane, `weights[d]` are the next of dataset d. So there is
no counter to store, every dataset is seen in its own order without a gap, and ranks keep to their lanes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pipelines.keyed_rng import KeyedRng
from pipelines.stream.order import Order, Segment


@dataclass(frozen=True)
class Mixture:
    """Order of samples of several datasets; shards are numbered through all of them."""

    orders: tuple[Order, ...]
    """Orders with the same number of lanes."""
    weights: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.orders) != len(self.weights) or min(self.weights) < 1 or len(self._lanes) != 1:
            raise ValueError("a mixture needs a weight of at least 1 for each order, and orders of as many lanes")

    @property
    def num_samples(self) -> int:
        """Number of samples of all datasets."""
        return sum(order.num_samples for order in self.orders)

    def locate(self, position: int) -> tuple[int, int]:
        """Global position -> (shard, sample inside the shard)."""
        dataset, own = self._locate_dataset(position)
        shard, sample = self.orders[dataset].locate(own)
        return self._find_first_shard(dataset) + shard, sample

    def ahead(self, position: int) -> Iterator[Segment]:
        """Yield what `Order.ahead` yields for the dataset of the position."""
        dataset, own = self._locate_dataset(position)
        first = self._find_first_shard(dataset)
        for segment in self.orders[dataset].ahead(own):
            yield segment._replace(shard=first + segment.shard)

    @property
    def _lanes(self) -> set[int]:
        return {order.num_lanes for order in self.orders}

    def _locate_dataset(self, position: int) -> tuple[int, int]:
        """Dataset of a position, and the position in that dataset's own order."""
        (num_lanes,) = self._lanes
        row, lane = divmod(position, num_lanes)
        round_number, slot = divmod(row, sum(self.weights))
        datasets, counts = _draw_round(self.weights, self.seed, lane, round_number)
        dataset = datasets[slot]
        return dataset, (round_number * self.weights[dataset] + counts[slot]) * num_lanes + lane

    def _find_first_shard(self, dataset: int) -> int:
        return sum(len(order.counts) for order in self.orders[:dataset])


@lru_cache(maxsize=1024)
def _draw_round(weights: tuple[int, ...], seed: int, lane: int, round_number: int) -> tuple[list[int], list[int]]:
    """Datasets of one round of a lane in their order, and for each place how often its dataset came before."""
    every = [dataset for dataset, weight in enumerate(weights) for _ in range(weight)]
    datasets = [every[i] for i in KeyedRng(seed, "mix", lane, round_number).permutation(len(every))]
    before: Counter[int] = Counter()
    counts = []
    for dataset in datasets:
        counts.append(before[dataset])
        before[dataset] += 1
    return datasets, counts
