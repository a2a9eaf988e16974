"""Signs of life of ranks: their step, and where in its code a rank stands that has made none for long.

In: the step that the loop has reached. Out: `Beat`s, sent every few seconds by a thread of their own: a rank that hangs
cannot report it itself. The ranks that wait for it stand just as still; only their place in the code differs.
"""

import logging
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
"""A rank reports its place in the code after so long without a step, or after _SLOWER times the median of its last
steps: where steps take ten seconds, half a minute is no hanging."""
_SLOWER: Final = 5.0
_STEPS_KEPT: Final = 100
_STILLEST_SECONDS: Final = 300.0
"""But never later than this."""
_WRITING_SECONDS: Final = 60.0
"""A checkpoint that takes longer to write is reported, though the steps go on."""
_WAITING_SECONDS: Final = 60.0
"""Without a beat of any rank for so long, the ranks are starting or wait for resources."""
_KILLED: Final = "processes were killed"
_RESIZED: Final = "their number has changed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beat:
    """The report of one rank about itself."""

    rank: int
    host: str
    pid: int
    images_seen: int
    still_seconds: float
    """Seconds since its last step, or since it began to write."""
    stack: str = ""
    """Stack of its training thread, where that stands still for long and does not wait for other ranks; of the thread
    that writes, where that takes long."""
    last: bool = False
    """Whether the rank has ended: no beat follows."""
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
        """Note that the training thread begins a step."""
        now = time.monotonic()
        if self._steps > 1 and not self._paused:  # the first step compiles, and before it there is none
            self._lengths.append(now - self._since)
        self._images_seen, self._since, self._steps, self._paused = images_seen, now, self._steps + 1, False

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude a block of the training thread from the lengths of steps."""
        try:
            yield
        finally:
            self._since, self._paused = time.monotonic(), True

    @contextmanager
    def mark_writing(self) -> Iterator[None]:
        """Mark a block in which another thread writes a checkpoint."""
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
        self._send(replace(self.make_beat(), last=True))

    def make_beat(self) -> Beat:
        """Beat of this moment, with a stack where the rank stands still for long."""
        now, writer = time.monotonic(), self._writer
        still = now - self._since
        usual = statistics.median(list(self._lengths) or [0.0])
        allowed = max(_STILL_SECONDS, min(_STILLEST_SECONDS, _SLOWER * usual))
        beat = Beat(self._rank, socket.gethostname(), os.getpid(), self._images_seen, still)
        if writer is not None and (still > allowed or now - writer[1] > _WRITING_SECONDS):
            seconds, stack = now - writer[1], _format_stack(writer[0])
            return replace(beat, still_seconds=seconds, stack=stack, doing="has been writing a checkpoint")
        return replace(beat, stack=_format_stack(self._thread_id)) if still > allowed else beat

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            self._send(self.make_beat())


def _format_stack(thread_id: int) -> str:
    """Last lines of the thread's stack; empty while it waits for other ranks."""
    frames = traceback.extract_stack(sys._current_frames().get(thread_id))
    if any(frame.filename == infra.world.__file__ for frame in frames):
        return ""
    return "".join(traceback.format_list(frames[-6:])).rstrip()


class HeartbeatMonitor:
    """Last beat of each rank, faults of ranks, and the number of their starts, kept outside of all ranks."""

    def __init__(self) -> None:
        self._beats: dict[int, tuple[float, Beat]] = {}
        self._reported: set[tuple[int, int, bool]] = set()
        self._starts: Counter[int] = Counter()
        self._ends_by_fault: Counter[int] = Counter()
        self._ends: defaultdict[int, list[str]] = defaultdict(list)
        self._images_seen, self._num_ranks = 0, 0
        self._faults: list[tuple[bool, str]] = []
        self._messages: list[str] = []
        self._known_messages: set[str] = set()
        self._since = self._reported_wait = time.monotonic()

    def begin(self, images_seen: int | None, num_ranks: int) -> tuple[int, int]:
        """Number of starts at this clock, this one included, and of those that a fault has ended.

        A change of the number of ranks is a start as well, and no fault. A clock that cannot be read (None) is taken to
        stand still.
        """
        images_seen = self._images_seen if images_seen is None else images_seen
        if self._starts:
            self._record_end(images_seen, num_ranks)
        self._beats.clear()
        self._starts[images_seen] += 1
        self._images_seen, self._num_ranks, self._since = images_seen, num_ranks, time.monotonic()
        return self._starts[images_seen], self._ends_by_fault[images_seen]

    def _record_end(self, images_seen: int, num_ranks: int) -> None:
        """Record what ended the start before this one."""
        unknown = _KILLED if num_ranks == self._num_ranks else _RESIZED
        own, end = min(self._faults, key=lambda fault: not fault[0], default=(False, unknown))
        self._ends_by_fault[self._images_seen] += own
        self._ends[self._images_seen].append(end)
        ranks = "1 rank goes" if num_ranks == 1 else f"{num_ranks} ranks go"
        self._messages.append(f"{ranks} on at {images_seen} images: {end}")
        self._faults.clear()

    def record_fault(self, fault: str, *, own: bool) -> None:
        """Record why a rank has died: by a fault of its `own`, which counts first, or because it lost others."""
        self._faults.append((own, fault))

    def describe_ends(self) -> str:
        """Faults that ended the starts at this clock, as far as ranks could report them; equal ones once."""
        return "; then ".join(dict.fromkeys(self._ends[self._images_seen]))

    def add_message(self, line: str) -> None:
        """Add a line for the user; one that several ranks send alike is kept once."""
        if line not in self._known_messages:
            self._known_messages.add(line)
            self._messages.append(line)

    def drain_messages(self) -> list[str]:
        """Messages since the last call, and a line for each rank that hangs."""
        messages, self._messages = self._messages, []
        return messages + self.find_hung()

    def measure_wait(self) -> float:
        """Seconds since the last beat of any rank, once in a minute; 0 where there is nothing to report."""
        now = time.monotonic()
        if now - max(self._since, self._reported_wait) <= _WAITING_SECONDS:
            return 0.0
        self._reported_wait = now
        return now - self._since

    def record_beat(self, beat: Beat) -> None:
        """Keep the newest beat of a rank, none after its last."""
        self._since = time.monotonic()
        self._beats[beat.rank] = self._since, beat
        if beat.last:
            del self._beats[beat.rank]

    def find_hung(self) -> list[str]:
        """A line for each rank that stands still, or whose beats stay out, once for each place where it stands."""
        return [_format_hung(*last) for last in self._beats.values() if self._is_new_place(*last)]

    def _is_new_place(self, at: float, beat: Beat) -> bool:
        silent = time.monotonic() - at > _STILL_SECONDS
        place = (beat.pid, beat.images_seen, silent)
        if not (silent or beat.stack) or place in self._reported:
            return False
        self._reported.add(place)
        return True


def _format_hung(at: float, beat: Beat) -> str:
    silent = time.monotonic() - at
    return f"silent for {silent:.0f} s: {beat}" if silent > _STILL_SECONDS else str(beat)


def explain_wait(
    workers: tuple[int, int], resources: dict[str, int], there: dict[str, int], queued: bool, seconds: float
) -> str:
    """The line for users while no rank has begun: what the cluster lacks, or that workers are only starting.

    `workers`: the fewest and the most; `resources`: of one worker; `there`: of the whole cluster; `queued`: whether Ray
    has not placed them yet.
    """
    needs = {name: workers[0] * number for name, number in resources.items() if number}
    lacks = [
        f"{_pluralize(need, name)}: the cluster has {there[name]}" for name, need in needs.items() if there[name] < need
    ]
    so_far = f"({seconds:.0f} s so far)"
    if lacks:
        return f"waiting for {'; and for '.join(lacks)} {so_far}"
    if queued:
        needed = " and ".join(_pluralize(need, name) for name, need in needs.items())
        return f"waiting for {needed}: other work holds the cluster's {so_far}"
    count = " to ".join(str(number) for number in sorted(set(workers)))
    return f"starting {_pluralize(count, 'worker')} {so_far}"


def _pluralize(number: int | str, noun: str) -> str:
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


class Every:
    """Calls a function every so many seconds for the time of a block."""

    def __init__(self, seconds: float, call: Callable[[], object]) -> None:
        self._seconds, self._call = seconds, call
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Call it a last time, unless the process must stop at once."""
        self._ended.set()
        self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self._try()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._try()

    def _try(self) -> None:
        try:
            self._call()
        except Exception as fault:  # noqa: BLE001 - a store that fails for a while does not end the calls
            log.warning("not shown this time: %s", fault)
