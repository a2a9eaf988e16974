"""Speed of loader workers on this machine, and the number of them that a training needs.

In: a stream, and the seconds of a training step. Out: photos per second of one worker and of as many as the machine has
cores for, measured by running them, and the number of workers that keep up with that step.
"""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np

from infra.world import World
from pipelines.stream.batching import Stream

_WARMING_UP: Final = 3
"""Batches of each worker that are not counted: it starts, opens files, and has two ready in advance."""


def measure_loader_rates(stream: Stream, batch_size: int, most: int, seconds: float) -> dict[int, float]:
    """Photos per second, by wall clock, of one loader worker and of `most`, by the number of workers.

    Cores share memory and caches, so two workers make less than twice as much as one. The second rate is measured half
    an epoch on, where the first has not cached the photos.
    """
    counts, half = sorted({1, most}), stream.num_samples // 2
    return {n: _measure_rate(stream, k * half, batch_size, n, seconds / len(counts)) for k, n in enumerate(counts)}


def _measure_rate(stream: Stream, images_seen: int, batch_size: int, num_loader_workers: int, seconds: float) -> float:
    batches = stream.batches(images_seen, batch_size, World(), num_loader_workers)
    for _ in islice(batches, _WARMING_UP * num_loader_workers):
        pass
    started, num_batches = time.perf_counter(), 0
    while not num_batches or time.perf_counter() - started < seconds:
        next(batches)
        num_batches += 1
    return num_batches * batch_size / (time.perf_counter() - started)


def count_needed_loaders(rates: Mapping[int, float], batch_size: int, step_seconds: float) -> int | None:
    """Least number of workers that make a batch in the time of a step, None if the most do not suffice.

    Rates between the measured numbers of workers are interpolated linearly.
    """
    counts, measured = list(rates), list(rates.values())
    suffices = (
        n for n in range(counts[0], counts[-1] + 1) if np.interp(n, counts, measured) * step_seconds >= batch_size
    )
    return next(suffices, None)
