"""Loader processes: the same batches as without them, faults as they were, and nobody waits for a dead one."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from infra.world import World
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import Batch, CorruptDataError, JobError, UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig
from pipelines.stream.loading import load
from pipelines.stream.rate import count_needed_loaders
from tests.making import files_of

CONFIG = StreamConfig(size_px=32, resize="random-square", mask_canvas_px=64, num_lanes=4, block_size=8)


NUM_BYTES = 2 * 16
"""Of two photos of 2x2 with a mask each."""


def batch_of(positions: list[int], memory: torch.Tensor) -> Batch:
    """A batch that says which process made it; its pixels are the positions, its masks one more."""
    image, mask = memory[: 12 * len(positions)], memory[12 * len(positions) : 16 * len(positions)]
    for number, position in enumerate(positions):
        image[12 * number : 12 * number + 12] = position % 250
        mask[4 * number : 4 * number + 4] = position % 250 + 1
    keys = tuple(str(os.getpid()) for _ in positions)
    return Batch(keys, tuple(positions), image.view(-1, 2, 2, 3).permute(0, 3, 1, 2), mask.view(-1, 1, 2, 2))


def is_right(batch: Batch) -> bool:
    """Whether it is still what `batch_of` made."""
    levels = torch.tensor([p % 250 for p in batch.positions])[:, None, None, None]
    return bool((batch.image == levels).all() and (batch.mask == levels + 1).all())


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are alike to the bit."""
    tensors = torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)
    return tensors and (one.keys, one.positions) == (other.keys, other.positions)


@pytest.mark.parametrize("num_loader_workers", [1, 2, 3])
def test_loader_processes_change_nothing(dataset: Dataset, num_loader_workers: int) -> None:
    stream = Stream((dataset,), CONFIG, 0)
    alone = list(islice(stream.batches(4, 6, World(1, 2)), 7))
    loaded = list(islice(stream.batches(4, 6, World(1, 2), num_loader_workers), 7))
    assert all(same(*pair) for pair in zip(alone, loaded, strict=True))


def test_batches_come_in_order_from_all_processes_by_turns() -> None:
    steps = [[n, n + 1] for n in range(0, 24, 2)]
    batches = list(load(batch_of, steps, NUM_BYTES, 3))
    assert [list(b.positions) for b in batches] == steps
    makers = [b.keys[0] for b in batches]
    assert len(set(makers)) == 3
    assert str(os.getpid()) not in makers
    assert makers[:3] * 4 == makers


def test_batches_stay_what_they_are_while_they_are_held() -> None:
    """However many: the first ones lie in slots, which are filled again only when nobody looks at them."""
    batches = load(batch_of, ([n, n + 1] for n in range(0, 1000, 2)), NUM_BYTES, 2)
    held = list(islice(batches, 40))
    assert all(map(is_right, held))
    views = [batch.image[0, 0] for batch in held[::3]]
    del held
    rest = list(batches)
    assert len(rest) == 460
    assert all(map(is_right, rest))
    assert [int(view[0, 0]) for view in views] == [6 * number for number in range(14)]


@pytest.mark.parametrize("num_held", [1, 3])
def test_memory_is_used_again(num_held: int) -> None:
    places, held = set(), deque[Batch](maxlen=num_held)
    for batch in load(batch_of, ([n] for n in range(300)), NUM_BYTES, 1):
        places.add(batch.image.data_ptr())
        held.append(batch)
        assert all(map(is_right, held))
    assert len(places) <= 6


def test_without_processes_nothing_is_made_ahead() -> None:
    made = []

    def make(positions: list[int], memory: torch.Tensor) -> Batch:
        made.append(positions)
        return batch_of(positions, memory)

    batches = load(make, ([n] for n in range(100)), NUM_BYTES, 0)
    next(batches)
    next(batches)
    assert made == [[0], [1]]


@pytest.mark.parametrize("num_loader_workers", [0, 2])
def test_damage_comes_as_damage_at_its_step(num_loader_workers: int) -> None:
    def make(positions: list[int], memory: torch.Tensor) -> Batch:
        if positions == [3]:
            raise CorruptDataError("shard 7 at member a.jpg")
        return batch_of(positions, memory)

    batches = load(make, ([n] for n in range(100)), NUM_BYTES, num_loader_workers)
    assert [next(batches).positions for _ in range(3)] == [(0,), (1,), (2,)]
    with pytest.raises(CorruptDataError, match=r"^shard 7 at member a\.jpg$"):
        next(batches)


class OddError(OSError):
    """A fault that cannot be made again from what it is pickled as, and cannot even be pickled."""

    def __init__(self, one: str, other: object) -> None:
        super().__init__(f"{one} is away")
        self.other = other


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (OddError("the store", threading.Lock()), OSError, r"^the store is away$"),
        (UsageError("no plane"), UsageError, r"^no plane$"),
        (StopIteration(), JobError, r"(?s)^a loader worker failed:.*StopIteration"),
        (ZeroDivisionError("oh"), JobError, r"(?s)^a loader worker failed:.*in make\n.*ZeroDivisionError: oh"),
    ],
)
def test_faults_of_loader_processes_are_raised_and_end_them(fault: Exception, kind: type, message: str) -> None:
    def make(positions: list[int], memory: torch.Tensor) -> Batch:
        if positions == [3]:
            raise fault
        return batch_of(positions, memory)

    with pytest.raises(kind, match=message) as raised:
        for _ in load(make, ([n] for n in range(100)), NUM_BYTES, 2):
            pass
    assert raised.traceback
    assert not multiprocessing.active_children()


def test_a_killed_loader_process_is_reported_and_not_waited_for() -> None:
    batches = load(batch_of, ([n] for n in range(10_000)), NUM_BYTES, 2)
    os.kill(int(next(batches).keys[0]), signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"killed by signal: Killed|a loader worker failed"):
        for _ in batches:
            pass
    del batches
    assert time.monotonic() - started < 60, "it was waited for"


def test_loader_processes_end_with_their_stream() -> None:
    batches = load(batch_of, ([n] for n in range(10_000)), NUM_BYTES, 2)
    processes = {int(next(batches).keys[0]) for _ in range(4)}
    del batches
    deadline = time.monotonic() + 30
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, processes))


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def damaged(dataset: Dataset, tmp_path: Path) -> tuple[Dataset, str]:
    """The dataset with one photo whose bytes are wrong, and its key."""
    for name, data in files_of(Path(dataset.uri)).items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    copy = open_dataset(str(tmp_path / "data"))
    reader = Stream((copy,), CONFIG, 0).reader
    member = next(m for suffix, m in reader._index(0).members(0).items() if suffix in ("jpg", "png"))
    path = tmp_path / "data" / copy.split("train")[0].file
    wrong = bytearray(path.read_bytes())
    wrong[member.offset + 50] ^= 1
    path.write_bytes(wrong)
    return copy, reader.key(0, 0)


@pytest.mark.parametrize("num_loader_workers", [0, 2])
def test_a_damaged_photo_stops_the_stream_at_its_position(
    damaged: tuple[Dataset, str], num_loader_workers: int
) -> None:
    dataset, key = damaged
    stream = Stream((dataset,), CONFIG, 0)
    position = next(p for p in range(stream.num_samples) if stream._order.locate(p) == (0, 0))
    batches = stream.batches(0, 1, World(), num_loader_workers)
    assert len(list(islice(batches, position))) == position
    with pytest.raises(CorruptDataError, match=f"is damaged at member {key}"):
        next(batches)


@pytest.mark.parametrize("num_loader_workers", [0, 2])
def test_a_damaged_photo_may_be_replaced_and_is_named(damaged: tuple[Dataset, str], num_loader_workers: int) -> None:
    dataset, key = damaged
    stream = Stream((dataset,), replace(CONFIG, damaged="replace"), 0)
    position = next(p for p in range(stream.num_samples) if stream._order.locate(p) == (0, 0))
    batches = list(islice(stream.batches(0, 1, World(), num_loader_workers), stream.num_samples))
    incidents = {b.positions[0]: b.incidents for b in batches if b.incidents}
    assert list(incidents) == [position]
    assert f"{key}." in incidents[position][0]
    stand_in = stream.reader.key(*stream._order.locate(position + CONFIG.num_lanes))
    assert incidents[position][0].endswith(f"; {stand_in} stands in")
    assert batches[position].keys == (stand_in,)
    assert key not in {b.keys[0] for b in batches}


def test_a_dataset_of_damage_is_not_replaced_by_itself(damaged: tuple[Dataset, str]) -> None:
    dataset, _ = damaged
    for shard in dataset.split("train"):
        path = Path(dataset.uri) / shard.file
        path.write_bytes(bytes(path.stat().st_size))
    stream = Stream((dataset,), replace(CONFIG, damaged="replace"), 0)
    with pytest.raises(CorruptDataError, match="100 samples in a row are damaged"):
        next(stream.batches(0, 1, World()))


@pytest.mark.parametrize(
    ("rates", "batch", "step_seconds", "needed"),
    [
        ({1: 1000.0}, 32, 0.032, 1),
        ({1: 1000.0}, 32, 0.031, None),
        ({1: 1000.0, 2: 1500.0}, 30, 0.02, 2),
        ({1: 1000.0, 2: 1500.0}, 30, 0.0199, None),
        ({1: 100.0, 9: 500.0}, 24, 1.0, 1),
        ({1: 100.0, 9: 500.0}, 24, 0.12, 3),
        ({1: 100.0, 9: 500.0}, 24, 0.1, 4),
    ],
)
def test_loaders_needed_make_a_batch_in_a_step(
    rates: dict[int, float], batch: int, step_seconds: float, needed: int | None
) -> None:
    assert count_needed_loaders(rates, batch, step_seconds) == needed
