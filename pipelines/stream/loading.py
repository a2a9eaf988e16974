"""Processes that make batches ahead of the one that learns from them.

In: the positions of each step. Out: their batches, in that order, whoever made them: torch's DataLoader tells what was
made, and notices within seconds when a process on either side is killed; the pixels lie in slots of shared memory.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

import torch
from torch.utils.data import DataLoader, Dataset

from pipelines.records import Batch, CorruptDataError, JobError, UsageError
from pipelines.stream.shared_buffers import SharedBuffers

Make = Callable[[list[int], torch.Tensor], Batch]
"""Makes the batch of some positions; its image and mask lie in the memory that is given, uint8."""

_AHEAD: Final = 2
"""Batches that each process makes before they are asked for."""
_HELD: Final = 4
"""Batches that who reads them may hold, the one that is asked for among them; of more, each has its own memory."""
_ELSEWHERE: Final = torch.empty(0, dtype=torch.uint8)


class _Layout(NamedTuple):
    """Where a tensor lies in its memory."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @staticmethod
    def of(tensor: torch.Tensor) -> "_Layout":
        return _Layout(tuple(tensor.size()), tensor.stride(), int(tensor.storage_offset()))


@dataclass(frozen=True)
class _Made:
    """A batch whose image and mask lie in a slot."""

    batch: Batch
    slot: int
    image: _Layout
    mask: _Layout

    def inside(self, memory: torch.Tensor) -> Batch:
        """The batch with both."""
        return replace(self.batch, image=memory.as_strided(*self.image), mask=memory.as_strided(*self.mask))


@dataclass(frozen=True)
class _Steps(Dataset[Batch | _Made | Exception]):
    """The batches of a stream by slot and positions; a fault is a value, so that it comes as what it was."""

    make: Make
    slots: SharedBuffers
    num_bytes: int

    def __getitem__(self, step: tuple[int | None, list[int]]) -> Batch | _Made | Exception:
        try:
            return self._made(*step)
        except (CorruptDataError, UsageError, JobError) as fault:
            return type(fault)(str(fault))  # without what hangs on it and may not be picklable
        except OSError as fault:
            return OSError(str(fault))
        except Exception:  # noqa: BLE001 - what torch makes of it would not end the other processes
            return JobError(f"a loader process failed:\n{traceback.format_exc()}")

    def _made(self, slot: int | None, positions: list[int]) -> Batch | _Made:
        if slot is None:
            return self.make(positions, torch.empty(self.num_bytes, dtype=torch.uint8))
        batch = self.make(positions, self.slots.memory(slot))
        layouts = _Layout.of(batch.image), _Layout.of(batch.mask)
        return _Made(replace(batch, image=_ELSEWHERE, mask=_ELSEWHERE), slot, *layouts)


def load(make: Make, steps: Iterable[list[int]], num_bytes: int, num_processes: int) -> Iterator[Batch]:
    """The batch of each step in order, made by so many processes, by this one if there are none.

    `num_bytes` of memory are enough for any step. Batches lie in pinned memory where there is a GPU. Raises
    CorruptDataError, UsageError and OSError as `make` does, at the step that they belong to, and JobError for any other
    fault in a process and where one has ended; torch tells that by a signal, so it may come up anywhere else too.
    """
    if num_processes:
        batches = _made_ahead(make, steps, num_bytes, num_processes)
    else:
        batches = (make(positions, torch.empty(num_bytes, dtype=torch.uint8)) for positions in steps)
    pinned = torch.cuda.is_available()
    for batch in batches:
        yield batch.pin_memory() if pinned else batch


def _made_ahead(make: Make, steps: Iterable[list[int]], num_bytes: int, num_processes: int) -> Iterator[Batch]:
    slots = SharedBuffers(num_processes * _AHEAD + _HELD, num_bytes)
    loader = DataLoader(
        _Steps(make, slots, num_bytes),
        batch_size=None,
        sampler=((slots.take(), positions) for positions in steps),
        num_workers=num_processes,
        prefetch_factor=_AHEAD,
        multiprocessing_context="fork",  # what it reads from is open, and the slots are shared, from birth on
        collate_fn=cast("Callable[[list[Any]], Any]", _as_it_is),  # a step comes as it was made
        generator=torch.Generator(),  # it would draw from the global one, which decides nothing here
    )
    made = iter(loader)
    while (batch := _next(made)) is not None:
        if isinstance(batch, Exception):
            del made  # its processes end now and not when the fault's traceback goes
            raise batch
        yield batch.inside(slots.lend(batch.slot)) if isinstance(batch, _Made) else batch


def _next(made: Iterator[Batch | _Made | Exception]) -> Batch | _Made | Exception | None:
    """The next batch or what became of it, None after the last."""
    try:
        return next(made, None)
    except (RuntimeError, OSError, EOFError) as fault:  # the last two: it ended while it was handing a batch over
        what = str(fault) or type(fault).__name__
        return JobError(f"a loader process failed: {what}; the same command goes on from the last checkpoint")


def _as_it_is(batch: Batch | _Made | Exception) -> Batch | _Made | Exception:
    return batch
