"""How fast loader processes make batches here, and how many of them a training needs.

In: a stream, and how long a step of the training takes. Out: photos a second of one process and of the most that the
machine has cores for, found by running them, and the number of processes that keep up with that step.
"""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np

from infra.world import World
from pipelines.stream.batching import Stream

_WARMING_UP: Final = 3
"""Batches of each process that are not counted: it starts, opens files, and has two ready before it is asked."""


def measure_loader_rates(stream: Stream, batch_size: int, most: int, seconds: float) -> dict[int, float]:
    """Photos a second of one loader process and of the most that there may be, by the clock on the wall.

    Cores share memory and caches, so two processes make less than twice of what one does. The second number is found
    half an epoch on, where the first has not brought the photos near.
    """
    counts, half = sorted({1, most}), stream.num_samples // 2
    return {n: _rate(stream, k * half, batch_size, n, seconds / len(counts)) for k, n in enumerate(counts)}


def _rate(stream: Stream, images_seen: int, batch_size: int, num_processes: int, seconds: float) -> float:
    batches = stream.batches(images_seen, batch_size, World(), num_processes)
    for _ in islice(batches, _WARMING_UP * num_processes):
        pass
    started, num_batches = time.perf_counter(), 0
    while not num_batches or time.perf_counter() - started < seconds:
        next(batches)
        num_batches += 1
    return num_batches * batch_size / (time.perf_counter() - started)


def count_needed_loaders(rates: Mapping[int, float], batch_size: int, step_seconds: float) -> int | None:
    """The least number of processes that make a batch in the time of a step, None if the most do not suffice.

    What lies between the measured numbers of processes is taken to lie on a line.
    """
    counts, measured = list(rates), list(rates.values())
    suffices = (
        n for n in range(counts[0], counts[-1] + 1) if np.interp(n, counts, measured) * step_seconds >= batch_size
    )
    return next(suffices, None)
