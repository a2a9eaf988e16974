"""Locks between processes, which the kernel drops when their holder ends, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from infra import storage
from infra.object_store import translate_faults

_FILE: Final = ".lock"
_POLL_SECONDS: Final = 0.01


class LockedError(RuntimeError):
    """A folder that another process holds: names both."""


@contextmanager
def hold_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock for a block, and yield whether it is held: never False with `wait`.

    Raises OSError on a file system without locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a killed holder
    try:
        lock.acquire(blocking=wait, poll_interval=_POLL_SECONDS)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def lock_folder(uri: str) -> Iterator[None]:
    """Hold the folder for a block.

    Raises LockedError if another process holds it, InvalidURIError if `uri` is no folder. Object stores have no such
    lock: there the records decide, of a dataset the first, of a training the last.
    """
    folder = storage.to_writable_folder(uri)
    if folder is None:
        yield
        return
    with hold_lock(folder / _FILE, wait=False) as is_held:
        if not is_held:
            holder = (folder / _FILE).read_text().strip() or "unknown"
            raise LockedError(f"process {holder} works in {uri}: wait for its end, or give another --out")
        with translate_faults(LocalFileSystem(), str(folder / _FILE)):
            (folder / _FILE).write_text(str(os.getpid()))
        yield
