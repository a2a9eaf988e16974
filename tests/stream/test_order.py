"""Law 5: order is computed, not stored. Laws over random shards, lanes, blocks, seeds and worlds."""

import tracemalloc
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.stream.order import Order, count_lane_readers

ORDERS = st.builds(
    Order,
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=10).filter(any).map(tuple),
    seed=st.integers(0, 1000),
    num_lanes=st.integers(1, 30),
    block_size=st.integers(1, 20),
)
LAWS = settings(max_examples=60)


def places(order: Order, start: int, stop: int) -> list[tuple[int, int]]:
    """The samples at these global positions."""
    return [order.locate(position) for position in range(start, stop)]


def epoch(order: Order, number: int) -> list[tuple[int, int]]:
    """The samples of an epoch, in order."""
    size = sum(order.counts)
    return places(order, number * size, (number + 1) * size)


def lane_length(order: Order, lane: int) -> int:
    """Samples of a lane: the first ones are one longer where the epoch does not divide."""
    return len(range(lane, sum(order.counts), order.num_lanes))


def everything(order: Order) -> set[tuple[int, int]]:
    """All samples there are."""
    return {(shard, sample) for shard, count in enumerate(order.counts) for sample in range(count)}


@LAWS
@given(order=ORDERS, number=st.integers(0, 5))
def test_each_epoch_visits_every_sample_once(order: Order, number: int) -> None:
    visits = epoch(order, number)
    assert len(visits) == sum(order.counts)
    assert set(visits) == everything(order)


@pytest.mark.parametrize("counts", [(1000, 1, 0, 517), (3,) * 700, (5000,)])
def test_each_epoch_visits_every_sample_once_at_the_sizes_of_recipes(counts: tuple[int, ...]) -> None:
    order = Order(counts, seed=3)
    assert Counter(epoch(order, 1)) == Counter(everything(order))


@LAWS
@given(order=ORDERS, world=st.integers(1, 8), number=st.integers(0, 3))
def test_ranks_of_any_world_share_an_epoch_out_among_them(order: Order, world: int, number: int) -> None:
    first, size = number * sum(order.counts), sum(order.counts)
    visits: list[tuple[int, int]] = []
    for rank in range(world):
        own = Order(order.counts, order.seed, order.num_lanes, order.block_size)
        visits += [own.locate(p) for p in range(first, first + size) if p % world == rank]
    assert Counter(visits) == Counter(everything(order))


@LAWS
@given(order=ORDERS, start=st.integers(0, 200))
def test_resuming_at_a_counter_gives_the_rest_of_the_sequence(order: Order, start: int) -> None:
    again = Order(order.counts, order.seed, order.num_lanes, order.block_size)
    assert places(again, start, start + 40) == places(order, 0, start + 40)[start:]


@LAWS
@given(order=ORDERS, positions=st.lists(st.integers(0, 150), min_size=1, max_size=30))
def test_a_position_does_not_depend_on_what_was_asked_before(order: Order, positions: list[int]) -> None:
    straight = places(order, 0, 151)
    assert [order.locate(p) for p in positions] == [straight[p] for p in positions]


@pytest.mark.parametrize("block_size", [1, 8, 1024])
def test_epochs_differ(block_size: int) -> None:
    order = Order((10,) * 8, seed=0, num_lanes=4, block_size=block_size)
    epochs = [epoch(order, number) for number in range(5)]
    assert all(one != other for i, one in enumerate(epochs) for other in epochs[:i])


def test_seeds_differ() -> None:
    assert len({tuple(epoch(Order((10,) * 8, seed), 0)) for seed in range(10)}) == 10


def test_shards_are_laid_in_another_order_each_epoch() -> None:
    order = Order((5,) * 40, seed=0, num_lanes=1, block_size=1)
    assert len({tuple(shard for shard, _ in epoch(order, number)) for number in range(6)}) == 6


def test_samples_inside_a_block_are_permuted() -> None:
    order = Order((64,), seed=0, num_lanes=1, block_size=64)
    assert epoch(order, 0) != sorted(epoch(order, 0))


def test_first_samples_of_a_training_are_spread_over_the_lanes() -> None:
    order = Order((10,) * 24, seed=0, num_lanes=24, block_size=8)
    assert len({shard for shard, _ in places(order, 0, 24)}) == 24


@LAWS
@given(order=ORDERS, number=st.integers(0, 3))
def test_a_lane_is_a_stretch_of_shards_laid_end_to_end(order: Order, number: int) -> None:
    visits = epoch(order, number)
    lanes = [visits[lane :: order.num_lanes] for lane in range(order.num_lanes)]
    assert [len(lane) for lane in lanes] == [lane_length(order, i) for i in range(order.num_lanes)]
    for before, after in pairwise(lanes):
        assert len({s for s, _ in before} & {s for s, _ in after}) <= 1
    for lane in lanes:
        inner = {s for s, _ in lane}
        torn = [s for s in inner if sum(shard == s for shard, _ in lane) < order.counts[s]]
        assert len(torn) <= 2


@LAWS
@given(order=ORDERS, number=st.integers(0, 3), lane=st.integers(0, 29))
def test_a_block_is_a_stretch_of_its_lane(order: Order, number: int, lane: int) -> None:
    assume(lane < order.num_lanes)
    visits = epoch(order, number)[lane :: order.num_lanes]
    for start in range(0, len(visits), order.block_size):
        block = visits[start : start + order.block_size]
        for shard in {s for s, _ in block}:
            samples = sorted(sample for s, sample in block if s == shard)
            assert samples == list(range(samples[0], samples[0] + len(samples)))


@LAWS
@given(order=ORDERS, factor=st.integers(1, 6), parts=st.integers(1, 6), number=st.integers(0, 3))
def test_a_world_that_divides_the_lanes_reads_whole_lanes(order: Order, factor: int, parts: int, number: int) -> None:
    order = Order(order.counts, order.seed, factor * parts, order.block_size)
    size, world = sum(order.counts), parts
    visits, first = epoch(order, number), number * size
    for rank in range(world):
        own = {visits[p - first] for p in range(first, first + size) if p % world == rank}
        touched = [set(visits[lane :: order.num_lanes]) for lane in range(order.num_lanes)]
        assert all(lane <= own or not lane & own for lane in touched)


def test_a_world_that_divides_the_lanes_reads_each_shard_once() -> None:
    order = Order((10,) * 8, seed=0, num_lanes=4, block_size=4)
    shards = [{order.locate(p)[0] for p in range(rank, 80, 2)} for rank in range(2)]
    assert shards[0] | shards[1] == set(range(8))
    assert not shards[0] & shards[1]


def test_fewer_samples_than_lanes_are_visited_once_too() -> None:
    assert sorted(epoch(Order((2, 0, 1), seed=0, num_lanes=24), 7)) == [(0, 0), (0, 1), (2, 0)]


@pytest.mark.parametrize(
    ("counts", "lanes", "block"), [((), 1, 1), ((0, 0), 1, 1), ((5,), 0, 1), ((5,), 1, 0)], ids=str
)
def test_an_order_of_nothing_is_refused(counts: tuple[int, ...], lanes: int, block: int) -> None:
    with pytest.raises(ValueError, match="at least one sample, one lane and blocks of at least one sample"):
        Order(counts, 0, lanes, block)


def test_recorded_order_is_computed_again() -> None:
    order = Order((3, 0, 4, 2), seed=0, num_lanes=2, block_size=3)
    assert epoch(order, 0) == [(2, 0), (0, 0), (3, 1), (0, 1), (3, 0), (2, 3), (2, 1), (0, 2), (2, 2)]
    assert places(order, 9, 12) == [(2, 0), (0, 1), (2, 2)]


@LAWS
@given(order=ORDERS, world=st.integers(1, 8))
def test_as_many_ranks_read_from_a_lane_as_is_counted(order: Order, world: int) -> None:
    lanes, rows = order.num_lanes, 8 * world
    readers = [{(row * lanes + lane) % world for row in range(rows)} for lane in range(lanes)]
    assert {len(ranks) for ranks in readers} == {count_lane_readers(lanes, world)}


def test_memory_does_not_grow_with_the_epochs() -> None:
    order = Order((1,) * 3000, seed=0, num_lanes=4, block_size=64)
    tracemalloc.start()
    sizes = []
    for epoch in (10, 40):
        for position in range(0, epoch * order.num_samples, 50):
            order.locate(position)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 200_000, sizes
