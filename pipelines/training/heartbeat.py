"""A rank's sign of life: where it stands, and where in its code if it has not moved for long.

In: the step that the loop has reached. Out: `Beat`s, sent every few seconds by a thread of their own. A file of its own
because a rank that hangs cannot say so itself, and the ranks that wait for it look just as still: what tells them apart
is where they are.
"""

import os
import socket
import statistics
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import infra.world

_SECONDS_BETWEEN: Final = 5.0
_STILL_SECONDS: Final = 30.0
"""Without a step for so long, or for _SLOWER times the median of its last steps, a rank says where it is: where steps
take ten seconds, half a minute is no hanging."""
_SLOWER: Final = 5.0
_STEPS_KEPT: Final = 100
_STILLEST_SECONDS: Final = 300.0
"""But never later than this."""
_WRITING_SECONDS: Final = 60.0
"""A checkpoint that takes longer to write is told, though the steps go on."""
_WAITING_SECONDS: Final = 60.0
"""Where no rank has been heard of for so long, ranks are only starting, or wait for room to begin."""
_KILLED: Final = "its processes were killed"
_RESIZED: Final = "their number has changed"


@dataclass(frozen=True)
class Beat:
    """What one rank says of itself."""

    rank: int
    host: str
    pid: int
    images_seen: int
    still_seconds: float
    """Since its last step, or since it began to write."""
    stack: str = ""
    """Of its training thread, if that has been still for long and is not waiting for other ranks; of the one that
    writes, if that is what lasts."""
    last: bool = False
    """It has ended and will say no more."""
    doing: str = "has made no step"

    def __str__(self) -> str:
        where = f"; it is here:\n{self.stack}" if self.stack else ""
        return (
            f"rank {self.rank} (process {self.pid} on {self.host}) {self.doing} for {self.still_seconds:.0f} s "
            f"at {self.images_seen} images{where}"
        )


class Heartbeat:
    """Sends beats for the time of a block, in which `step` is called before each step of the thread that made it."""

    def __init__(self, rank: int, send: Callable[[Beat], None]) -> None:
        self._rank, self._send = rank, send
        self._thread_id = threading.get_ident()
        self._images_seen, self._since, self._steps, self._paused = 0, time.monotonic(), 0, False
        self._lengths: deque[float] = deque(maxlen=_STEPS_KEPT)
        self._writer: tuple[int, float] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def step(self, images_seen: int) -> None:
        """Takes note that the thread comes by here."""
        now = time.monotonic()
        if self._steps > 1 and not self._paused:  # the first step compiles, and before it there is none
            self._lengths.append(now - self._since)
        self._images_seen, self._since, self._steps, self._paused = images_seen, now, self._steps + 1, False

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """A block of the training thread that is no part of a step, and says nothing of how long steps take."""
        try:
            yield
        finally:
            self._since, self._paused = time.monotonic(), True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block in which another thread writes a checkpoint."""
        self._writer = threading.get_ident(), time.monotonic()
        try:
            yield
        finally:
            self._writer = None

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._send(replace(self.beat(), last=True))

    def beat(self) -> Beat:
        """What there is to say now."""
        now, writer = time.monotonic(), self._writer
        still = now - self._since
        usual = statistics.median(list(self._lengths) or [0.0])
        patience = max(_STILL_SECONDS, min(_STILLEST_SECONDS, _SLOWER * usual))
        of = Beat(self._rank, socket.gethostname(), os.getpid(), self._images_seen, still)
        if writer is not None and (still > patience or now - writer[1] > _WRITING_SECONDS):
            seconds, stack = now - writer[1], _stack(writer[0])
            return replace(of, still_seconds=seconds, stack=stack, doing="has been writing a checkpoint")
        return replace(of, stack=_stack(self._thread_id)) if still > patience else of

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            self._send(self.beat())


def _stack(thread_id: int) -> str:
    """Where the thread is; empty while it waits for other ranks."""
    frames = traceback.extract_stack(sys._current_frames().get(thread_id))
    if any(frame.filename == infra.world.__file__ for frame in frames):
        return ""
    return "".join(traceback.format_list(frames[-6:])).rstrip()


class HeartbeatMonitor:
    """The last beat of each rank, what befell them, and how often they began: kept apart from all ranks."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._named: set[tuple[int, int, bool]] = set()
        self._starts: Counter[int] = Counter()
        self._ends_by_fault: Counter[int] = Counter()
        self._ends: defaultdict[int, list[str]] = defaultdict(list)
        self._images_seen, self._num_ranks = 0, 0
        self._causes: list[tuple[bool, str]] = []
        self._news: list[str] = []
        self._told: set[str] = set()
        self._since = self._said = time.monotonic()

    def begin(self, images_seen: int | None, num_ranks: int) -> tuple[int, int]:
        """How often the training has begun at this clock, this time included, and how often a fault was its end there.

        A change of the number of ranks is a start as well, and no fault. Where the clock cannot be read it is taken to
        stand still.
        """
        images_seen = self._images_seen if images_seen is None else images_seen
        if self._starts:
            self._take_end(images_seen, num_ranks)
        self._heard.clear()
        self._starts[images_seen] += 1
        self._images_seen, self._num_ranks, self._since = images_seen, num_ranks, time.monotonic()
        return self._starts[images_seen], self._ends_by_fault[images_seen]

    def _take_end(self, images_seen: int, num_ranks: int) -> None:
        """Notes what ended the start before this one."""
        unknown = _KILLED if num_ranks == self._num_ranks else _RESIZED
        own, end = min(self._causes, key=lambda cause: not cause[0], default=(False, unknown))
        self._ends_by_fault[self._images_seen] += own
        self._ends[self._images_seen].append(end)
        who = "1 rank goes" if num_ranks == 1 else f"{num_ranks} ranks go"
        self._news.append(f"{who} on at {images_seen} images: {end}")
        self._causes.clear()

    def blame(self, fault: str, *, own: bool) -> None:
        """Takes what a rank died of: of its own, or as it lost others. The first that has died of its own counts."""
        self._causes.append((own, fault))

    def ends_here(self) -> str:
        """What starts at this clock died of, by those that could say so; what ended several is said once."""
        return "; then ".join(dict.fromkeys(self._ends[self._images_seen]))

    def tell(self, line: str) -> None:
        """Takes what a rank has to say to the user; what all say alike is said once."""
        if line not in self._told:
            self._told.add(line)
            self._news.append(line)

    def news(self) -> list[str]:
        """What is to be said and was not yet: what befell ranks, and who hangs."""
        news, self._news = self._news, []
        return news + self.hung()

    def seconds_waiting(self) -> float:
        """Seconds since a rank was heard of, once in each minute of them; 0 where there is nothing to say."""
        now = time.monotonic()
        if now - max(self._since, self._said) <= _WAITING_SECONDS:
            return 0.0
        self._said = now
        return now - self._since

    def note(self, beat: Beat) -> None:
        """Takes a beat."""
        self._since = time.monotonic()
        self._heard[beat.rank] = self._since, beat
        if beat.last:
            del self._heard[beat.rank]

    def hung(self) -> list[str]:
        """The ranks that stand still, or have not been heard of for long, each once for a place."""
        return [_silence(*heard) for heard in self._heard.values() if self._is_news(*heard)]

    def _is_news(self, at: float, beat: Beat) -> bool:
        silent = time.monotonic() - at > _STILL_SECONDS
        place = (beat.pid, beat.images_seen, silent)
        if not (silent or beat.stack) or place in self._named:
            return False
        self._named.add(place)
        return True


def _silence(at: float, beat: Beat) -> str:
    silent = time.monotonic() - at
    return f"silent for {silent:.0f} s: {beat}" if silent > _STILL_SECONDS else str(beat)
