"""How fast loader processes make batches here, and how many of them a training needs.

In: a stream, and how long a step of the training takes. Out: photos a second of one process and of as many as there are
cores, found by running them, and the number of processes that keep up with that step.
"""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

from infra.world import World
from pipelines.stream.batching import Stream

_WARMING_UP: Final = 3
"""Batches of each process that are not counted: it starts, opens files, and has two ready before it is asked."""


def loader_rates(stream: Stream, batch_size: int, num_cores: int, seconds: float) -> dict[int, float]:
    """Photos a second by the number of loader processes, one and a core each, by the clock on the wall.

    Cores share memory and caches, so two processes make less than twice of what one does.
    """
    counts = sorted({1, num_cores})
    return {count: _loader_rate(stream, batch_size, count, seconds / len(counts)) for count in counts}


def _loader_rate(stream: Stream, batch_size: int, num_processes: int, seconds: float) -> float:
    batches = stream.batches(0, batch_size, World(), num_processes)
    for _ in islice(batches, _WARMING_UP * num_processes):
        pass
    started, num_batches = time.perf_counter(), 0
    while not num_batches or time.perf_counter() - started < seconds:
        next(batches)
        num_batches += 1
    return num_batches * batch_size / (time.perf_counter() - started)


def loaders_needed(rates: Mapping[int, float], batch_size: int, step_seconds: float) -> int | None:
    """The least number of processes that make a batch in the time of a step, None if the cores do not suffice.

    What lies between the measured numbers of processes is taken to lie on a line.
    """
    (fewest, one), (most, all_cores) = min(rates.items()), max(rates.items())
    more = (all_cores - one) / max(1, most - fewest)
    suffices = (n for n in range(fewest, most + 1) if (one + (n - fewest) * more) * step_seconds >= batch_size)
    return next(suffices, None)
