"""Laws 4 and 5 over random worlds: whoever makes the batches, the sequence is the one that a process alone makes.

LACUNA_SOAK_WORLDS says how many worlds are drawn; 60 take some seconds. Worlds of numbers have photos of one pixel that
name their place, so that shards, lanes, blocks, weights, ranks and loader processes may be anything. Worlds of pixels
are few, and real: datasets on disk, processes that are forked, crops, flips and masks.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby, islice, pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pytest

from infra import storage
from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset, open_dataset, read_table
from pipelines.records import Batch, ShardRecord
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, Transform
from pipelines.stream.order import Segment
from pipelines.stream.reading import ShardReader
from tests.conftest import silent
from tests.making import photo_folder, shard_recipe

pytestmark = pytest.mark.thorough

NUM_WORLDS: Final = int(os.environ.get("LACUNA_SOAK_WORLDS", "60"))
PIXEL: Final = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
ByteRange = tuple[int, int]


class Numbers(ShardReader):
    """Photos of one pixel whose keys are their places; it records what it fetched ahead, position by position."""

    def __init__(self, datasets: tuple[Dataset, ...]) -> None:
        super().__init__(datasets, "train")
        self.fetched: list[list[Segment]] = [[]]
        """What was to be fetched ahead before each read."""

    def pictures(self, shard: int, sample: int, planes: tuple[str, ...] = ()) -> tuple[str, bytes, dict[str, bytes]]:
        self.fetched.append([])
        return f"{shard}/{sample}", PIXEL, {}

    def fetch_ahead(self, stretch: Segment) -> None:
        self.fetched[-1].append(stretch)


@dataclass
class Seen:
    """What was made of a range of positions."""

    places: dict[int, ByteRange] = field(default_factory=dict)
    fetched: dict[int, list[Segment]] = field(default_factory=dict)

    def add(self, batch: Batch, fetched: list[list[Segment]]) -> None:
        """Takes a batch; no position may come twice."""
        for position, key, stretches in zip(batch.positions, batch.keys, fetched, strict=True):
            assert position not in self.places
            shard, sample = key.split("/")
            self.places[position], self.fetched[position] = (int(shard), int(sample)), stretches


@dataclass(frozen=True)
class Numbered:
    """A world of numbers."""

    counts: tuple[tuple[int, ...], ...]
    """Samples of the shards of each dataset."""
    weights: tuple[int, ...]
    seed: int
    num_lanes: int
    block_size: int
    batch_size: int

    def stream(self) -> Stream:
        """A stream of its own, as each process has one."""
        datasets = tuple(_make_numbered_dataset(counts) for counts in self.counts)
        config = StreamConfig(size_px=1, masks=(), augment=(), num_lanes=self.num_lanes, block_size=self.block_size)
        stream = Stream(datasets, config, self.seed, self.weights)
        stream.reader = Numbers(datasets)
        return stream

    def play(self, size: int, num_loader_workers: int, first: int, num_batches: int, into: Seen) -> None:
        """Batches from position `first` on by so many ranks; batch b of a rank is made by its process b mod n."""
        for rank in range(size):
            makers = [self.stream() for _ in range(max(1, num_loader_workers))]
            for number in range(num_batches):
                maker = makers[number % len(makers)]
                assert isinstance(maker.reader, Numbers)
                maker.reader.fetched = [[]]
                start = first + number * self.batch_size
                batch = next(maker.batches(start, self.batch_size, World(rank, size)))
                into.add(batch, maker.reader.fetched[:-1])

    @cached_property
    def parts(self) -> list[list[ByteRange]]:
        """All samples of each dataset that has a weight; without weights all together."""
        counts = list(chain.from_iterable(self.counts))
        places = [[(shard, n) for n in range(count)] for shard, count in enumerate(counts)]
        lengths = [len(own) for own in self.counts] if self.weights else [len(counts)]
        shards = iter(places)
        return [list(chain.from_iterable(islice(shards, length))) for length in lengths]

    @property
    def shares(self) -> tuple[int, ...]:
        """How many samples of each part come in one round of a lane."""
        return self.weights or (1,)

    @property
    def num_batches(self) -> int:
        """Enough for one epoch of every part and the beginning of the next one."""
        pairs = zip(self.parts, self.shares, strict=True)
        rounds = 1 + max(-(-len(part) // (share * self.num_lanes)) for part, share in pairs)
        return -(-rounds * sum(self.shares) * self.num_lanes // self.batch_size)

    def alone(self) -> tuple[list[ByteRange], list[list[Segment]]]:
        """What one process without ranks sees: places, and what is to be fetched ahead."""
        seen = Seen()
        self.play(1, 0, 0, self.num_batches, seen)
        return list_order(seen, self.num_batches * self.batch_size)


def _make_numbered_dataset(counts: tuple[int, ...]) -> Dataset:
    shards = [ShardRecord("train", n, f"{n}.tar", count, 0, "", "", "", 0, 0) for n, count in enumerate(counts)]
    return Dataset("memory://numbers", {}, tuple(shards))


def list_order(seen: Seen, count: int) -> tuple[list[ByteRange], list[list[Segment]]]:
    """What was seen of the first positions in their order; every one must have come."""
    assert sorted(seen.places) == list(range(count))
    return [seen.places[p] for p in range(count)], [seen.fetched[p] for p in range(count)]


def draw_spans(number: int, rng: KeyedRng) -> Numbered:
    """The world of this number; every third has one dataset, every third mixes without weights."""
    num_datasets = 1 if number % 3 == 0 else rng.integer(2, 3)
    counts = [[rng.integer(0, 9) for _ in range(rng.integer(1, 5))] for _ in range(num_datasets)]
    counts = [own if any(own) else [1] for own in counts]
    weights = tuple(rng.integer(1, 4) for _ in counts) if number % 3 == 1 else ()
    lanes, block, batch = rng.integer(1, 26), rng.integer(1, 12), rng.integer(1, 16)
    return Numbered(tuple(map(tuple, counts)), weights, rng.integer(0, 999), lanes, block, batch)


def worlds(purpose: str) -> Iterator[tuple[Numbered, KeyedRng]]:
    """As many worlds as are asked for, each with chance for what is done in it."""
    for number in range(NUM_WORLDS):
        rng = KeyedRng(number, purpose)
        yield draw_spans(number, rng), rng


def test_any_ranks_and_processes_stopped_and_resumed_see_the_same_sequence() -> None:
    for world, rng in worlds("ranks"):
        total, seen = world.num_batches, Seen()
        stop = rng.integer(0, total)
        world.play(rng.integer(1, 8), rng.integer(0, 4), 0, stop, seen)
        world.play(rng.integer(1, 8), rng.integer(0, 4), stop * world.batch_size, total - stop, seen)
        assert list_order(seen, total * world.batch_size) == world.alone(), world


def test_every_sample_comes_once_in_each_epoch_of_its_dataset() -> None:
    for world, _ in worlds("epochs"):
        places, _ = world.alone()
        round_size = sum(world.shares) * world.num_lanes
        places = places[: len(places) // round_size * round_size]
        for part, share in zip(world.parts, world.shares, strict=True):
            own = set(part)
            number = len(places) // round_size * share * world.num_lanes
            epochs, rest = divmod(number, len(part))
            times = Counter(place for place in places if place in own)
            assert Counter(times[place] for place in part) == +Counter({epochs: len(part) - rest, epochs + 1: rest}), (
                world
            )


def test_each_epoch_of_one_dataset_is_whole_and_straddled_by_batches() -> None:
    for drawn_world, _ in worlds("borders"):
        world = replace(drawn_world, weights=())
        places, _ = world.alone()
        (part,) = world.parts
        for first in range(0, len(places) - len(part) + 1, len(part)):
            assert sorted(places[first : first + len(part)]) == part, world


def test_every_round_of_a_lane_holds_each_dataset_by_its_weight() -> None:
    for world, _ in worlds("weights"):
        places, _ = world.alone()
        part_of = {place: number for number, part in enumerate(world.parts) for place in part}
        for lane in range(world.num_lanes):
            own = [part_of[place] for place in places[lane :: world.num_lanes]]
            for first in range(0, len(own) - sum(world.shares) + 1, sum(world.shares)):
                counts = Counter(own[first : first + sum(world.shares)])
                assert tuple(counts[n] for n in range(len(world.parts))) == world.shares, world


def test_every_block_is_named_once_when_the_one_before_it_in_its_lane_is_opened() -> None:
    for world, _ in worlds("ahead"):
        places, fetched = world.alone()
        for blocks in blocks_of_lanes(world, places):
            for block, following in pairwise(blocks[:-1]):
                assert sorted(members(fetched[block[0]])) == sorted(places[p] for p in following), world
                assert not any(fetched[position] for position in block[1:]), world


def blocks_of_lanes(world: Numbered, places: list[ByteRange]) -> Iterator[list[list[int]]]:
    """The positions of each block of each dataset in a residue of the lanes, block by block; the last may be cut."""
    for part in world.parts:
        own = set(part)
        for lane in range(world.num_lanes):
            positions = [p for p in range(lane, len(places), world.num_lanes) if places[p] in own]
            numbers = [divmod(n * world.num_lanes + lane, len(part)) for n in range(len(positions))]
            blocks = [(epoch, at // world.num_lanes // world.block_size) for epoch, at in numbers]
            pairs = zip(blocks, positions, strict=True)
            yield [[position for _, position in group] for _, group in groupby(pairs, key=lambda pair: pair[0])]


def members(stretches: list[Segment]) -> list[ByteRange]:
    """The samples of some stretches."""
    return [(stretch.shard, sample) for stretch in stretches for sample in range(stretch.first, stretch.last)]


CONFIG: Final = StreamConfig(
    size_px=32,
    resize="random-square",
    augment=(Transform("HorizontalFlip"), Transform("VerticalFlip")),
    mask_canvas_px=32,
    num_lanes=6,
    block_size=5,
)
WHO: Final = [(size, processes) for size in (1, 2, 3, 4, 8) for processes in range(5)]
QUICK: Final = [(2, 3), (3, 4), (4, 0), (8, 1)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """A second, smaller dataset."""
    folder = tmp_path_factory.mktemp("other")
    plan = Plan(str(photo_folder(folder / "in", 20)), str(folder / "out"), shard_recipe(), seed=1)
    return build_dataset(plan, silent)


@pytest.mark.parametrize("weights", [(), (2, 1)], ids=["one dataset", "two by weights"])
def test_pixels_are_the_same_for_any_ranks_and_processes(
    dataset: Dataset, other: Dataset, weights: tuple[int, ...]
) -> None:
    datasets = (dataset, other) if weights else (dataset,)
    run_undisturbed = digest_by(datasets, weights, 1, 0)
    for size, processes in WHO if NUM_WORLDS > 60 else QUICK:
        assert digest_by(datasets, weights, size, processes) == run_undisturbed, (size, processes)


def digest_by(datasets: tuple[Dataset, ...], weights: tuple[int, ...], size: int, num_loader_workers: int) -> str:
    """SHA-256 of keys, images and masks in the order of their positions, of 6 global batches of 12 from photo 21 on."""
    samples = {}
    for rank in range(size):
        stream = Stream(datasets, CONFIG, 7, weights)
        for batch in islice(stream.batches(21, 12, World(rank, size), num_loader_workers), 6):
            for position, key, image, mask in zip(batch.positions, batch.keys, batch.image, batch.mask, strict=True):
                samples[position] = key.encode() + image.numpy().tobytes() + mask.numpy().tobytes()
    assert sorted(samples) == list(range(21, 21 + 6 * 12))
    return hashlib.sha256(b"".join(samples[p] for p in sorted(samples))).hexdigest()


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Photos of noise, some 40 kB each, in shards of many of the cache's pages."""
    folder = tmp_path_factory.mktemp("heavy")
    (folder / "in").mkdir()
    for number in range(480):
        noise = np.random.default_rng(number).integers(0, 256, (120, 120, 3), np.uint8)
        cv2.imwrite(str(folder / "in" / f"{number:03d}.png"), noise)
    recipe = shard_recipe(holdout=0.0, shard_bytes=1_000_000)
    return build_dataset(Plan(str(folder / "in"), str(folder / "out"), recipe, seed=0), silent)


@pytest.fixture(scope="module")
def heavy_remote(heavy: Dataset) -> Iterator[Dataset]:
    """The same on another file system."""
    uri = "memory://worlds/heavy"
    for name, _ in storage.list_files(heavy.uri):
        storage.publish(storage.join(uri, name), storage.read_bytes(storage.join(heavy.uri, name)))
    yield open_dataset(uri)
    storage.remove(uri)


@pytest.mark.parametrize("place", ["heavy", "heavy_remote"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_worlds_that_divide_the_lanes_read_at_most_a_tenth_more_than_their_samples(
    heavy: Dataset,
    size: int,
    place: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for rank in range(size):
        monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / f"cache{rank}"))
        read, due = traffic_of_an_epoch(request.getfixturevalue(place), World(rank, size))
        assert 0.9 * due < read < 1.1 * due, (rank, read, due)


def traffic_of_an_epoch(dataset: Dataset, world: World) -> tuple[int, int]:
    """Bytes that a rank with a cache of its own asks for in an epoch, and the bytes of the samples that it is to have.

    Of remote datasets those are of its epoch, and of the next one's first blocks: they come ahead.
    """
    stream = Stream((dataset,), replace(CONFIG, masks=(), num_lanes=4, block_size=4), seed=3)
    keys = [key for batch in islice(stream.batches(0, 4, world), stream.num_samples // 4) for key in batch.keys]
    read = stream.reader.traffic.num_bytes
    if storage.to_local_path(dataset.uri) is None:
        keys += next(stream.batches(stream.num_samples, 16, world)).keys
    return read, sum(size for key, size in list_stored_sizes(dataset).items() if key in keys)


def list_stored_sizes(dataset: Dataset) -> dict[str, int]:
    """Bytes of the members of each sample, by its key."""
    rows = chain.from_iterable(read_table(dataset.uri, shard).to_pylist() for shard in dataset.split("train"))
    return {row["key"]: sum(member["size"] for member in row["members"]) for row in rows}
