"""Live progress on stderr: bars on a terminal, occasional lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES: Final = 5.0
_SECONDS_UNTIL_SLOW, _SECONDS_BETWEEN_LOOKS = 2.0, 0.5


class Show(Protocol):
    """Function of a task, its number of steps done, their total, and a remark."""

    def __call__(self, what: str, done: int, total: int, remark: str = "") -> None: ...


@contextmanager
def progress() -> Iterator[Show]:
    """Show progress for a block."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[remark]}", markup=False), console=Console(stderr=True)) as bars:
        yield _Bars(bars)


@contextmanager
def slow_progress(what: str, look: Callable[[], tuple[int, int, str]]) -> Iterator[None]:
    """Show progress of a block that takes longer than two seconds; `look` returns done, total and a remark.

    For work that cannot call a function after each step: another thread calls `look` from time to time.
    """
    ended = threading.Event()

    def watch(show: Show) -> None:
        started, wait = time.monotonic(), _SECONDS_UNTIL_SLOW
        while not ended.wait(wait):
            done, total, remark = look()
            show(what, done, total, f"{remark} ({time.monotonic() - started:.0f} s)")
            wait = _SECONDS_BETWEEN_LOOKS

    with progress() as show:
        watcher = threading.Thread(target=watch, args=(show,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int, remark: str = "") -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, remark=remark)
        self._bars.update(self._tasks[what], completed=done, total=total, remark=remark)


class _Lines:
    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int, remark: str = "") -> None:
        now = time.monotonic()
        if done == total or now - self._last.get(what, float("-inf")) >= _SECONDS_BETWEEN_LINES:
            self._last[what] = now
            print(f"{what:<12} {done}/{total} {remark}".rstrip(), file=sys.stderr, flush=True)


def say(line: str = "") -> None:
    """Print a line of text on stderr."""
    print(line, file=sys.stderr, flush=True)
