"""What the time of a build goes into: the stopwatch that its tasks take, and what they make of the whole.

In: moments. Out: seconds by the kind of work, the share of what the machines could do at most, and what took the most.
Kept apart from everything that decides a byte.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field

Seconds = dict[str, float]
"""By the kind of work: listing, reading, hashing, cleaning, writing, `copying` of what is in shards already, and
`sorting` of rows into buckets and tables."""


@dataclass(frozen=True)
class Cost:
    """What a task that makes a shard has taken, which is nothing where the shard was there."""

    seconds: Seconds
    num_photos: int = 0
    """The inputs that it has brought to their end."""
    limit_seconds: float = 0.0
    """What the bare library calls for them would have taken on the same machine."""


class Stopwatch:
    """A stopwatch: each lap goes to the kind of work that has just ended."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def end_lap(self, what: str) -> None:
        """Books the time since the last lap."""
        now = time.perf_counter()
        self._seconds[what] += now - self._last
        self._last = now

    @property
    def seconds(self) -> Seconds:
        """What was booked; empty where a step had been done before."""
        return dict(self._seconds)


@dataclass
class BuildStats:
    """What this process has seen of a build; where it goes on with another's work, only its own part."""

    core_seconds: Seconds = field(default_factory=dict)
    num_cores: int = 1
    num_photos: int = 0
    limit_seconds: float = 0.0

    def add(self, seconds: Seconds) -> None:
        """Takes in what a task reports."""
        for what, more in seconds.items():
            self.core_seconds[what] = self.core_seconds.get(what, 0.0) + more

    def add_cost(self, cost: Cost) -> None:
        """Takes in what a task reports that makes a shard."""
        self.add(cost.seconds)
        self.num_photos += cost.num_photos
        self.limit_seconds += cost.limit_seconds

    def summarize(self, elapsed_seconds: float) -> dict[str, float | str]:
        """`images_per_second` of the photos that this process has brought to their end; the rest only if it did work.

        `share_of_limit`: what reading, digests, pixels and writing alone would have taken, of the cores' time, 0 to 1.
        `bottleneck`: the kind of work that took the most. A listing holds up all cores; the time in which a core did
        nothing at all for the build is `scheduling`.
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
