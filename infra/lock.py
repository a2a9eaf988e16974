"""One process at a time in a folder: an advisory lock that the kernel drops when its holder ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from infra import storage

_FILE: Final = ".lock"


class LockedError(RuntimeError):
    """Another process works in the folder: names both."""


@contextmanager
def lock_folder(uri: str) -> Iterator[None]:
    """Holds the folder for the time of the block.

    Raises LockedError where another process does, InvalidURIError for no folder.

    Object stores have no such lock: there the records themselves decide, of a dataset who came first, of a training who
    came last.
    """
    folder = storage.to_writable_folder(uri)
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _FILE).open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockedError(f"process {holder} works in {uri}: wait for its end, or name another --out") from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
