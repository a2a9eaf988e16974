"""Processes that make batches ahead of the one that learns from them.

In: the positions of each step. Out: their batches, in that order, whoever made them: torch's DataLoader passes them in
shared memory that the kernel frees with its last user, and notices within seconds when a process on either side is
killed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from pipelines.records import Batch, Damaged, Failed


@dataclass(frozen=True)
class _Steps(Dataset[Batch | Damaged | OSError]):
    """The batches of a stream by the positions in them; a fault is a value, so that it comes as what it was."""

    make: Callable[[list[int]], Batch]

    def __getitem__(self, positions: list[int]) -> Batch | Damaged | OSError:
        try:
            return self.make(positions)
        except (Damaged, OSError) as fault:
            return fault


def load(make: Callable[[list[int]], Batch], steps: Iterable[list[int]], num_processes: int) -> Iterator[Batch]:
    """The batch of each step in order, made by so many processes, by this one if there are none.

    They lie in pinned memory where there is a GPU. Raises Damaged and OSError as `make` does, at the step that they
    belong to, and Failed where a process has ended; torch tells that by a signal, so it may come up anywhere else too.
    """
    if num_processes == 0 and not torch.cuda.is_available():
        yield from map(make, steps)
        return
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=steps,
        num_workers=num_processes,
        collate_fn=cast("Callable[[list[Any]], Any]", _as_it_is),  # a step comes as it was made
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # it would draw from the global one, which decides nothing here
    )
    batches = iter(loader)
    while (batch := _next(batches, num_processes)) is not None:
        if not isinstance(batch, Batch):
            del batches  # its processes end now and not when the fault's traceback goes
            raise batch
        yield batch


def _next(batches: Iterator[Batch | Exception], num_processes: int) -> Batch | Exception | None:
    """The next batch or what became of it, None after the last."""
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as fault:  # the last two: it ended while it was handing a batch over
        if not num_processes:
            raise
        what = str(fault) or type(fault).__name__
        return Failed(f"a loader process failed: {what}; the same command goes on from the last checkpoint")


def _as_it_is(batch: Batch | Damaged | OSError) -> Batch | Damaged | OSError:
    return batch
