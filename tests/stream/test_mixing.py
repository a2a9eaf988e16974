"""Several datasets as one sequence: laws over random shards, weights, lanes and worlds."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.world import World
from pipelines.manifest import Dataset
from pipelines.records import UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig
from pipelines.stream.mixing import Mixture
from pipelines.stream.order import Order

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any).map(tuple)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """One to four datasets in two or more lanes."""
    lanes, block = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    counts = draw(st.lists(COUNTS, min_size=1, max_size=4))
    orders = tuple(Order(c, number, lanes, block) for number, c in enumerate(counts))
    weights = tuple(draw(st.integers(1, 4)) for _ in counts)
    return Mixture(orders, weights, draw(st.integers(0, 99)))


LAWS = settings(max_examples=60)


def dataset_of(mixture: Mixture, shard: int) -> int:
    """Which dataset a shard of the mixture is of."""
    ends = [sum(len(o.counts) for o in mixture.orders[: n + 1]) for n in range(len(mixture.orders))]
    return next(number for number, end in enumerate(ends) if shard < end)


@LAWS
@given(mixture=mixtures(), rounds=st.integers(1, 4))
def test_every_round_of_every_lane_keeps_the_weights(mixture: Mixture, rounds: int) -> None:
    lanes, turn = mixture.orders[0].num_lanes, sum(mixture.weights)
    seen = [dataset_of(mixture, mixture.locate(p)[0]) for p in range(rounds * turn * lanes)]
    for lane in range(lanes):
        for start in range(0, rounds * turn, turn):
            own = Counter(seen[lane::lanes][start : start + turn])
            assert [own[d] for d in range(len(mixture.weights))] == list(mixture.weights)


@LAWS
@given(mixture=mixtures())
def test_whole_rounds_show_the_samples_of_each_dataset_as_it_would_alone(mixture: Mixture) -> None:
    lanes, turn = mixture.orders[0].num_lanes, sum(mixture.weights)
    seen = Counter(mixture.locate(p) for p in range(3 * turn * lanes))
    first, expected = 0, Counter[tuple[int, int]]()
    for order, weight in zip(mixture.orders, mixture.weights, strict=True):
        alone = (order.locate(p) for p in range(3 * weight * lanes))
        expected.update((first + shard, sample) for shard, sample in alone)
        first += len(order.counts)
    assert seen == expected


@LAWS
@given(mixture=mixtures(), position=st.integers(0, 300))
def test_a_lane_of_the_mixture_keeps_to_the_lanes_of_the_same_number(mixture: Mixture, position: int) -> None:
    lanes = mixture.orders[0].num_lanes
    shard, sample = mixture.locate(position)
    dataset = dataset_of(mixture, shard)
    first = sum(len(o.counts) for o in mixture.orders[:dataset])
    order = mixture.orders[dataset]
    own = [order.locate(p) for p in range(position % lanes, position + order.num_samples * lanes, lanes)]
    assert (shard - first, sample) in own


def test_what_does_not_fit_is_no_mixture() -> None:
    one, other = Order((3,), 0, num_lanes=2), Order((3,), 0, num_lanes=3)
    for orders, weights in (((one,), (1, 1)), ((one, one), (1, 0)), ((one, other), (1, 1))):
        with pytest.raises(ValueError, match="weight of at least 1"):
            Mixture(orders, weights, 0)


CONFIG = StreamConfig(size_px=32, masks=("rectangle",), num_lanes=4, block_size=8)


def test_a_weighted_stream_takes_three_photos_of_one_for_each_of_the_other(dataset: Dataset) -> None:
    stream = Stream((dataset, dataset), CONFIG, 0, (3, 1))
    shards = [stream._order.locate(position)[0] for position in range(64)]
    of_first = sum(shard < len(dataset.split("train")) for shard in shards)
    assert of_first == 48
    batch = next(islice(stream.batches(0, 16, World()), 1))
    assert len(batch.keys) == 16


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), (0, 1), (-1, 1)])
def test_weights_that_fit_no_datasets_are_refused(dataset: Dataset, weights: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"--mix is .*: give each of the datasets, 2 in all, an integer"):
        Stream((dataset, dataset), CONFIG, 0, weights)
