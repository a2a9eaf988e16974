"""Time of a build: seconds of its tasks, and the share of each kind of work in the whole.

In: blocks of work. Out: seconds by kind of work, the share of the roofline, and the bottleneck. No stored byte depends
on this.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Seconds = dict[str, float]
"""Seconds by kind of work: listing, reading, hashing, cleaning, writing of shards and tables, `copying` of samples
between shards, and `sorting` of rows into buckets, with the check of photos that share a key."""


@dataclass(frozen=True)
class Cost:
    """Cost of a task that makes a shard; nothing where the shard existed."""

    seconds: Seconds
    num_photos: int = 0
    """Inputs that it has finished."""
    limit_seconds: float = 0.0
    """Seconds of the bare library calls for them on the same machine."""


class Stopwatch:
    """Seconds of a task by kind of work."""

    def __init__(self) -> None:
        self.seconds: Seconds = {}
        self._inner = 0.0

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of a block to a kind of work, without the blocks that are measured inside it."""
        started, before, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[what] = self.seconds.get(what, 0.0) + elapsed - self._inner
            self._inner = before + elapsed


@dataclass
class BuildStats:
    """Cost of the part of a build that this process has done itself."""

    core_seconds: Seconds = field(default_factory=dict)
    num_cores: int = 1
    num_photos: int = 0
    limit_seconds: float = 0.0

    def add(self, seconds: Seconds) -> None:
        """Add the seconds of a task."""
        for what, more in seconds.items():
            self.core_seconds[what] = self.core_seconds.get(what, 0.0) + more

    def add_cost(self, cost: Cost) -> None:
        """Add the cost of a task that makes a shard."""
        self.add(cost.seconds)
        self.num_photos += cost.num_photos
        self.limit_seconds += cost.limit_seconds

    def summarize(self, elapsed_seconds: float) -> dict[str, float | str]:
        """Report of the build: `images_per_second` of the photos that this process finished; the rest if it did work.

        `share_of_limit`: time of the bare library calls as a share of the cores' time, 0 to 1. `bottleneck`: the kind
        of work that took the most. A listing holds up all cores; `scheduling` is the time in which cores were idle.
        """
        rate = {"images_per_second": round(self.num_photos / elapsed_seconds, 1)}
        if not self.core_seconds:
            return dict(rate)
        available = elapsed_seconds * self.num_cores
        taken = dict(self.core_seconds)
        taken["listing"] = taken.get("listing", 0.0) * self.num_cores
        taken["scheduling"] = available - sum(taken.values())
        share = float(f"{min(self.limit_seconds / available, 1.0):.3g}")
        return {**rate, "share_of_limit": share, "bottleneck": max(taken, key=lambda what: taken[what])}
