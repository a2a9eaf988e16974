"""What the time of a build goes into: the laps that its tasks take, and what they make of the whole.

In: moments. Out: seconds by the kind of work, the share of the cores that worked on photos, and what took the most.
Kept apart from everything that decides a byte.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

Seconds = dict[str, float]
"""By the kind of work: listing, reading, hashing, cleaning, writing, and `sorting` of rows into buckets and tables."""

_ON_PHOTOS: Final = ("reading", "hashing", "cleaning", "writing")


class Laps:
    """A stopwatch: each lap goes to the kind of work that has just ended."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def end(self, what: str) -> None:
        """Books the time since the last lap."""
        now = time.perf_counter()
        self._seconds[what] += now - self._last
        self._last = now

    @property
    def seconds(self) -> Seconds:
        """What was booked; empty where a step had been done before."""
        return dict(self._seconds)


@dataclass
class Effort:
    """What this process has seen of a build; where it goes on with another's work, only its own part."""

    core_seconds: Seconds = field(default_factory=dict)
    num_cores: int = 1

    def add(self, seconds: Seconds) -> None:
        """Takes in what a task reports."""
        for what, more in seconds.items():
            self.core_seconds[what] = self.core_seconds.get(what, 0.0) + more

    def told(self, elapsed_seconds: float) -> dict[str, float | str]:
        """`share_of_limit`: of the cores' time, what went into reading, hashing, cleaning and writing photos, 0 to 1.

        `bottleneck`: the kind of work that took the most. A listing holds up all cores; the time in which a core did
        nothing at all for the build is `scheduling`.
        """
        available = elapsed_seconds * self.num_cores
        taken = dict(self.core_seconds)
        taken["listing"] = taken.get("listing", 0.0) * self.num_cores
        taken["scheduling"] = available - sum(taken.values())
        share = sum(taken.get(what, 0.0) for what in _ON_PHOTOS) / available
        return {"share_of_limit": round(min(share, 1.0), 3), "bottleneck": max(taken, key=lambda what: taken[what])}
