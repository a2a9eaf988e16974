"""Local copies of stretches of remote files, shared by all processes of this user on this machine.

In: the URI of a file whose content is known by its digest, and a stretch of it. Out: its bytes, from pages on the local
disk. A page is a file of its own that appears whole, and locks are the kernel's: a killed process leaves nothing that
stops another or that it could take for a page. What was opened least recently goes when the folder is over its limit.
"""

import fcntl
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any, Final

from infra import storage
from infra.retry import retry_transient

_MIN_PAGE_BYTES, _MAX_PAGE_BYTES, _PAGES_A_FILE = 128 << 10, 4 << 20, 16
_MAX_REQUEST_BYTES: Final = 16 << 20
_NUM_LOCKS: Final = 256
_MIN_PAGES: Final = 4
_OPEN_PAGES: Final = 256
_STALE_SECONDS: Final = 3600
_EVICTIONS_A_FILL: Final = 32
_ROOM_AFTER_EVICTION: Final = 0.9

log = logging.getLogger(__name__)


@dataclass
class Traffic:
    """What a reader has asked of disks and stores, and which requests had to be made again."""

    num_bytes: int = 0
    incidents: list[str] = field(default_factory=list)

    def tell(self, incident: str) -> None:
        """Notes a request that failed, and says so."""
        log.warning("%s", incident)
        self.incidents.append(incident)

    def drain(self) -> list[str]:
        """The incidents since the last call."""
        told = self.incidents[:]
        del self.incidents[: len(told)]  # a thread that fetches ahead may tell one more at this moment
        return told


@dataclass
class Cache:
    """A folder of pages with a limit, as one process knows it."""

    folder: Path
    limit_bytes: int
    _fetched_bytes: int = field(default=0, init=False)

    def grew(self, num_bytes: int) -> None:
        """Takes note of new pages; now and then the folder is brought back under its limit."""
        self._fetched_bytes += num_bytes
        if self._fetched_bytes * _EVICTIONS_A_FILL >= self.limit_bytes:
            self._fetched_bytes = 0
            self.evict()

    def evict(self) -> None:
        """Removes pages by their last use until the folder is under its limit; another process at it is enough."""
        with self._locked("evict", wait=False) as mine:
            if not mine:
                return
            pages = sorted(self._pages(), key=lambda page: page[1].st_mtime)
            excess = sum(status.st_size for _, status in pages) - self.limit_bytes
            if excess > 0:
                excess += int(self.limit_bytes * (1 - _ROOM_AFTER_EVICTION))
            for path, status in pages:
                if path.name.startswith(storage.ASIDE):  # somebody is writing it, if he was not killed
                    goes = time.time() - status.st_mtime > _STALE_SECONDS
                else:
                    goes = excess > 0
                if goes:
                    path.unlink(missing_ok=True)
                    excess -= status.st_size
        self.opened.cache_clear()

    @cached_property
    def opened(self) -> Any:
        """Opens a page of a length for reading.

        Some stay open, and keep the room of pages that others have removed: of up to an eighth of the limit.
        """
        return lru_cache(maxsize=max(1, min(_OPEN_PAGES, self.limit_bytes // 8 // _MAX_PAGE_BYTES)))(_open_used)

    def _pages(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("pages/*/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def lock(self, name: str, wait: bool) -> IO[bytes] | None:
        """An open file that holds the lock until it is closed, None where another holds it and `wait` is false."""
        path = self.folder / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            stream.close()
            return None
        return stream

    @contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[bool]:
        stream = self.lock(name, wait)
        try:
            yield stream is not None
        finally:
            if stream is not None:
                stream.close()


def open_default_cache() -> Cache:
    """The cache of LACUNA_CACHE, at most LACUNA_CACHE_BYTES large: half of what the disk has left if not set.

    All readers of a process share it. Raises OSError where the folder or the number is none.
    """
    folder = Path(os.environ.get("LACUNA_CACHE") or Path(tempfile.gettempdir()) / f"lacuna-{os.getuid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as fault:
        raise OSError(f"no cache can be in {folder} ({fault.strerror}): set LACUNA_CACHE to a folder") from None
    limit = os.environ.get("LACUNA_CACHE_BYTES")
    if limit and not limit.isdecimal():
        raise OSError(f"LACUNA_CACHE_BYTES is {limit!r}: give a number of bytes")
    return _cache(folder, int(limit) if limit else None)


@lru_cache(maxsize=4)
def _cache(folder: Path, limit_bytes: int | None) -> Cache:
    return Cache(folder, shutil.disk_usage(folder).free // 2 if limit_bytes is None else limit_bytes)


def _open_used(path: str, num_bytes: int) -> IO[bytes]:
    """A page, marked as used now; raises FileNotFoundError where there is none of this length."""
    stream = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - stays open, and a Path takes longer than the rest
    if os.fstat(stream.fileno()).st_size != num_bytes:
        stream.close()
        raise FileNotFoundError(path)
    os.utime(stream.fileno())
    return stream


class CachedFile:
    """A remote file, read through the cache."""

    def __init__(self, cache: Cache, uri: str, sha256: str, size_bytes: int, traffic: Traffic) -> None:
        self._cache, self._uri, self._sha256, self._size = cache, uri, sha256, size_bytes
        self._traffic = traffic
        least = max(_MIN_PAGE_BYTES, min(_MAX_PAGE_BYTES, size_bytes // _PAGES_A_FILE))
        self._page_bytes = 1 << (least - 1).bit_length()
        self._folder = cache.folder / "pages" / sha256
        if cache.limit_bytes < _MIN_PAGES * self._page_bytes:
            raise OSError(
                f"the cache {cache.folder} may hold {cache.limit_bytes} bytes, a page of {uri} has {self._page_bytes}: "
                f"set LACUNA_CACHE_BYTES to {_MIN_PAGES * self._page_bytes} at the very least"
            )

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end), fetched if they are not here. Raises OSError, and EOFError past the file's end."""
        if end > self._size:
            raise EOFError(f"{self._uri} has {self._size} bytes and not {end}")
        parts = [self._part(page, start, end) for page in self._pages_of(start, end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, page: int, start: int, end: int) -> bytes:
        """What the page holds of [start, end)."""
        low, high = max(start - page * self._page_bytes, 0), min(end - page * self._page_bytes, self._page_bytes)
        while True:
            stream = self._page(page)  # held: threads that fetch ahead evict, and what nobody holds is closed then
            part = os.pread(stream.fileno(), high - low, low)
            if len(part) == high - low:
                return part
            self._cache.opened.cache_clear()  # somebody has cut the page since it was opened

    def fetch(self, start: int, end: int) -> None:
        """Has the pages of [start, end) here; raises as `read`.

        Side by side ones come in one request; a page that another process is fetching is waited for.
        """
        pages = self._pages_of(start, end)
        while missing := [page for page in pages if not self._is_here(page)]:
            with ExitStack() as locks:
                if run := self._lock_run(missing, locks):
                    self._fetch_run(run)

    def forget(self, start: int, end: int) -> None:
        """Drops the pages of [start, end): what they hold is not what was stored."""
        for page in self._pages_of(start, end):
            self._path(page).unlink(missing_ok=True)
        self._cache.opened.cache_clear()

    def _pages_of(self, start: int, end: int) -> range:
        return range(start // self._page_bytes, -(-end // self._page_bytes))

    def _name(self, page: int) -> str:
        return f"{page:06d}-{self._page_bytes}"

    def _path(self, page: int) -> Path:
        return self._folder / self._name(page)

    def _length(self, page: int) -> int:
        return min(self._page_bytes, self._size - page * self._page_bytes)

    def _is_here(self, page: int) -> bool:
        try:
            return self._path(page).stat().st_size == self._length(page)
        except FileNotFoundError:
            return False

    def _page(self, page: int) -> IO[bytes]:
        start, length = page * self._page_bytes, self._length(page)
        while True:
            with suppress(FileNotFoundError):  # it may go at any moment
                stream: IO[bytes] = self._cache.opened(f"{self._folder}/{self._name(page)}", length)
                return stream
            self.fetch(start, start + length)

    def _lock_run(self, missing: list[int], locks: ExitStack) -> list[int]:
        """Pages side by side that this process alone now fetches; the first is waited for, which none else holds up."""
        run: list[int] = []
        for page in missing:
            if run and (page != run[-1] + 1 or (len(run) + 1) * self._page_bytes > _MAX_REQUEST_BYTES):
                break
            name = f"{(int(self._sha256[:8], 16) + page) % _NUM_LOCKS:03d}"
            lock = self._cache.lock(name, wait=not run)
            if lock is None:
                break
            locks.enter_context(lock)
            if self._is_here(page):  # it came while its lock was waited for
                break
            run.append(page)
        return run

    def _fetch_run(self, run: list[int]) -> None:
        start, end = run[0] * self._page_bytes, min(self._size, (run[-1] + 1) * self._page_bytes)
        data = retry_transient(lambda: self._request(start, end), self._traffic.report)
        self._path(run[0]).parent.mkdir(parents=True, exist_ok=True)
        for page in run:
            aside = self._path(page).with_name(f"{storage.ASIDE}{secrets.token_hex(6)}")
            at = page * self._page_bytes - start
            aside.write_bytes(data[at : at + self._length(page)])  # not synced: a torn page is found by its CRC32
            aside.replace(self._path(page))
        self._cache.grew(len(data))

    def _request(self, start: int, end: int) -> bytes:
        self._traffic.num_bytes += end - start
        data = storage.read_range_once(self._uri, start, end)
        if len(data) != end - start:  # no fault that passes: the file is not the one that was described
            raise EOFError(f"{self._uri} gave {len(data)} of the bytes {start} to {end}")
        return data
