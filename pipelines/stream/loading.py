"""Loader workers: processes that make batches ahead of the training process.

In: the positions of each step. Out: their batches, in that order. Torch's DataLoader hands batches over, and notices
within seconds when a process on either side is killed; the pixels lie in slots of shared memory.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from pipelines.records import Batch, CorruptDataError, JobError, UsageError
from pipelines.stream.shared_buffers import SharedBuffers

Make = Callable[[list[int], torch.Tensor], Batch]
"""Function that makes the batch of some positions, its image and mask in the given memory, uint8."""

_AHEAD: Final = 2
"""Batches that each worker makes ahead."""
_HELD: Final = 4
"""Batches that the reader may hold, the requested one among them; further ones have memory of their own."""
_ELSEWHERE: Final = torch.empty(0, dtype=torch.uint8)


class _Layout(NamedTuple):
    """Layout of a tensor in its memory."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @staticmethod
    def from_tensor(tensor: torch.Tensor) -> "_Layout":
        return _Layout(tuple(tensor.size()), tensor.stride(), int(tensor.storage_offset()))


@dataclass(frozen=True)
class _SlotBatch:
    """Batch whose image and mask lie in a slot of shared memory."""

    batch: Batch
    slot: int
    image: _Layout
    mask: _Layout

    def attach(self, memory: torch.Tensor) -> Batch:
        """Batch with its image and mask in the memory."""
        return replace(self.batch, image=memory.as_strided(*self.image), mask=memory.as_strided(*self.mask))


@dataclass(frozen=True)
class _Steps(Dataset[Batch | _SlotBatch | Exception]):
    """Batches of a stream by slot and positions; a fault is a value, so that it keeps its type."""

    make: Make
    slots: SharedBuffers
    num_bytes: int

    def __getitem__(self, step: tuple[int | None, list[int]]) -> Batch | _SlotBatch | Exception:
        try:
            return self._make_batch(*step)
        except (CorruptDataError, UsageError, JobError) as fault:
            return type(fault)(str(fault))  # without what hangs on it and may not be picklable
        except OSError as fault:
            return OSError(str(fault))
        except Exception:  # noqa: BLE001 - torch's own handling would not end the other processes
            return JobError(f"a loader worker failed:\n{traceback.format_exc()}")

    def _make_batch(self, slot: int | None, positions: list[int]) -> Batch | _SlotBatch:
        if slot is None:
            return self.make(positions, torch.empty(self.num_bytes, dtype=torch.uint8))
        batch = self.make(positions, self.slots.memory(slot))
        layouts = _Layout.from_tensor(batch.image), _Layout.from_tensor(batch.mask)
        return _SlotBatch(replace(batch, image=_ELSEWHERE, mask=_ELSEWHERE), slot, *layouts)


def load(make: Make, steps: Iterable[list[int]], num_bytes: int, num_loader_workers: int) -> Iterator[Batch]:
    """Yield the batch of each step in order, made by `num_loader_workers` workers; by this process if that is 0.

    `num_bytes` of memory are enough for any step. Batches lie in pinned memory where there is a GPU. Raises
    CorruptDataError, UsageError and OSError as `make` does, at their step, and JobError for any other fault of a worker
    or where one has ended. Torch reports an ended worker by a signal, so JobError may be raised anywhere.
    """
    if num_loader_workers:
        batches = _load_ahead(make, steps, num_bytes, num_loader_workers)
    else:
        batches = (make(positions, torch.empty(num_bytes, dtype=torch.uint8)) for positions in steps)
    pinned = torch.cuda.is_available()
    for batch in batches:
        yield batch.pin_memory() if pinned else batch


def _load_ahead(make: Make, steps: Iterable[list[int]], num_bytes: int, num_loader_workers: int) -> Iterator[Batch]:
    slots = SharedBuffers(num_loader_workers * _AHEAD + _HELD, num_bytes)
    loader = DataLoader(
        _Steps(make, slots, num_bytes),
        batch_size=None,
        sampler=((slots.take(), positions) for positions in steps),
        num_workers=num_loader_workers,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",  # workers inherit open files and the shared slots
        collate_fn=lambda batch: batch,  # no collation: a step is a whole batch
        generator=torch.Generator(),  # keeps DataLoader from drawing from the global one
    )
    batches = iter(loader)
    while (batch := _take_next(batches)) is not None:
        if isinstance(batch, Exception):
            del batches  # its processes end now and not when the fault's traceback goes
            raise batch
        yield batch.attach(slots.lend(batch.slot)) if isinstance(batch, _SlotBatch) else batch


def _take_next(batches: Iterator[Batch | _SlotBatch | Exception]) -> Batch | _SlotBatch | Exception | None:
    """Next batch or its fault, None after the last."""
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as fault:  # the last two: it ended while it was handing a batch over
        what = str(fault) or type(fault).__name__
        return JobError(f"a loader worker failed: {what}. Run the command again: it goes on from the last checkpoint")
