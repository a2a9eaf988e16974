"""How fast a loader process makes batches here, and how many of them a training needs.

In: a stream, and how long a step of the training takes. Out: photos a second of one process, found by running one, and
the number of processes that keep up with that step.
"""

import math
import time
from itertools import islice
from typing import Final

from infra.world import World
from pipelines.stream.batching import Stream

_WARMING_UP: Final = 3
"""Batches that are not counted: the process starts, opens files, and has two batches ready before it is asked."""


def loader_images_per_second(stream: Stream, batch_size: int, seconds: float) -> float:
    """Photos a second that one loader process hands over in batches of this size, by the clock on the wall."""
    batches = stream.batches(0, batch_size, World(), num_processes=1)
    for _ in islice(batches, _WARMING_UP):
        pass
    started, num_batches = time.perf_counter(), 0
    while not num_batches or time.perf_counter() - started < seconds:
        next(batches)
        num_batches += 1
    return num_batches * batch_size / (time.perf_counter() - started)


def loaders_needed(images_per_second: float, batch_size: int, step_seconds: float) -> int:
    """The processes that together make a batch in the time of a step."""
    return math.ceil(batch_size / (images_per_second * step_seconds))
