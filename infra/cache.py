"""Pages of remote files on the local disk, shared by all processes of this user on this machine.

In: the URI of a file whose digest is known, and a byte range of it. Out: the bytes, read from local pages.
A page is a file that appears whole, and the kernel holds the locks: a killed process leaves no lock and no partial
page. Pages that were opened least recently are removed once the folder exceeds its limit.
"""

import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any, Final

from infra import storage
from infra.lock import hold_lock
from infra.retry import retry_transient

_MIN_PAGE_BYTES, _MAX_PAGE_BYTES, _PAGES_A_FILE = 128 << 10, 4 << 20, 16
_MAX_REQUEST_BYTES: Final = 16 << 20
_NUM_LOCKS: Final = 256
_MIN_PAGES: Final = 4
_OPEN_PAGES: Final = 256
_STALE_SECONDS: Final = 3600
_EVICTIONS_A_FILL: Final = 32
_FILL_AFTER_EVICTION: Final = 0.9

log = logging.getLogger(__name__)


@dataclass
class Traffic:
    """Bytes that a reader has requested from stores, and the requests that it had to repeat."""

    num_bytes: int = 0
    incidents: list[str] = field(default_factory=list)

    def report(self, incident: str) -> None:
        """Record a failed request and log it."""
        log.warning("%s", incident)
        self.incidents.append(incident)

    def drain(self) -> list[str]:
        """Incidents since the last call."""
        drained = self.incidents[:]
        del self.incidents[: len(drained)]  # a thread that fetches ahead may add one at this moment
        return drained


@dataclass
class Cache:
    """A folder of pages with a size limit, as one process sees it."""

    folder: Path
    limit_bytes: int
    _fetched_bytes: int = field(default=0, init=False)

    def add_fetched(self, num_bytes: int) -> None:
        """Count bytes of new pages, and evict pages from time to time."""
        self._fetched_bytes += num_bytes
        if self._fetched_bytes * _EVICTIONS_A_FILL >= self.limit_bytes:
            self._fetched_bytes = 0
            self.evict()

    def evict(self) -> None:
        """Remove the least recently used pages until the folder is under its limit.

        Return at once where another process is evicting.
        """
        with self.hold_lock("evict", wait=False) as is_held:
            if not is_held:
                return
            # List pages by their last use.
            pages = sorted(self._list_pages(), key=lambda page: page[1].st_mtime)
            excess = sum(status.st_size for _, status in pages) - self.limit_bytes
            if excess > 0:
                excess += int(self.limit_bytes * (1 - _FILL_AFTER_EVICTION))
            # Remove partial pages that killed processes left, and pages while there are too many.
            for path, status in pages:
                if path.name.startswith(storage.ASIDE):
                    is_removable = time.time() - status.st_mtime > _STALE_SECONDS
                else:
                    is_removable = excess > 0
                if is_removable:
                    path.unlink(missing_ok=True)
                    excess -= status.st_size
        self.open_page.cache_clear()

    @cached_property
    def open_page(self) -> Any:
        """Function that opens a page of a given length for reading.

        Some pages stay open. They keep disk space of removed pages: at most an eighth of the limit.
        """
        return lru_cache(maxsize=max(1, min(_OPEN_PAGES, self.limit_bytes // 8 // _MAX_PAGE_BYTES)))(_open_and_touch)

    def _list_pages(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("pages/*/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def hold_lock(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Lock of this name, shared by all processes; see `lock.hold_lock`."""
        return hold_lock(self.folder / "locks" / name, wait=wait)


def open_default_cache() -> Cache:
    """Cache of LACUNA_CACHE, at most LACUNA_CACHE_BYTES large: by default half of the free space on its disk.

    All readers of a process share it. Raises OSError for an unusable folder or number.
    """
    folder = Path(os.environ.get("LACUNA_CACHE") or Path(tempfile.gettempdir()) / f"lacuna-{os.getuid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as fault:
        raise OSError(f"could not make the cache folder {folder} ({fault.strerror}): set LACUNA_CACHE") from None
    limit = os.environ.get("LACUNA_CACHE_BYTES")
    if limit and not limit.isdecimal():
        raise OSError(f"LACUNA_CACHE_BYTES is {limit!r}: give a whole number of bytes")
    return _build_cache(folder, int(limit) if limit else None)


@lru_cache(maxsize=4)
def _build_cache(folder: Path, limit_bytes: int | None) -> Cache:
    return Cache(folder, shutil.disk_usage(folder).free // 2 if limit_bytes is None else limit_bytes)


def _open_and_touch(path: str, num_bytes: int) -> IO[bytes]:
    """Page, marked as used now; raises FileNotFoundError where there is none of this length."""
    stream = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - stays open, and a Path costs more than all else
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
                f"set LACUNA_CACHE_BYTES to at least {_MIN_PAGES * self._page_bytes}"
            )

    def read(self, start: int, end: int) -> bytes:
        """Bytes [start, end), fetched if needed. Raises OSError, and EOFError past the file's end."""
        if end > self._size:
            raise EOFError(f"{self._uri} has {self._size} bytes, fewer than {end}")
        parts = [self._read_part(page, start, end) for page in self._find_pages(start, end)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_part(self, page: int, start: int, end: int) -> bytes:
        """Bytes of [start, end) that the page holds."""
        low, high = max(start - page * self._page_bytes, 0), min(end - page * self._page_bytes, self._page_bytes)
        while True:
            stream = self._open_page(page)  # keep it: threads that fetch ahead evict, which closes unused pages
            part = os.pread(stream.fileno(), high - low, low)
            if len(part) == high - low:
                return part
            self._cache.open_page.cache_clear()  # another process has truncated the page since it was opened

    def fetch(self, start: int, end: int) -> None:
        """Fetch the missing pages of [start, end); raises as `read`.

        Adjacent pages come in one request. A page that another process is fetching is waited for.
        """
        pages = self._find_pages(start, end)
        while missing := [page for page in pages if not self._is_here(page)]:
            with ExitStack() as locks:
                if run := self._lock_run(missing, locks):
                    self._fetch_run(run)

    def forget(self, start: int, end: int) -> None:
        """Drop the pages of [start, end), which do not hold what was stored."""
        for page in self._find_pages(start, end):
            self._get_path(page).unlink(missing_ok=True)
        self._cache.open_page.cache_clear()

    def _find_pages(self, start: int, end: int) -> range:
        return range(start // self._page_bytes, -(-end // self._page_bytes))

    def _get_name(self, page: int) -> str:
        return f"{page:06d}-{self._page_bytes}"

    def _get_path(self, page: int) -> Path:
        return self._folder / self._get_name(page)

    def _get_length(self, page: int) -> int:
        return min(self._page_bytes, self._size - page * self._page_bytes)

    def _is_here(self, page: int) -> bool:
        try:
            return self._get_path(page).stat().st_size == self._get_length(page)
        except FileNotFoundError:
            return False

    def _open_page(self, page: int) -> IO[bytes]:
        start, length = page * self._page_bytes, self._get_length(page)
        while True:
            with suppress(FileNotFoundError):  # it may be evicted at any moment
                stream: IO[bytes] = self._cache.open_page(f"{self._folder}/{self._get_name(page)}", length)
                return stream
            self.fetch(start, start + length)

    def _lock_run(self, missing: list[int], locks: ExitStack) -> list[int]:
        """Lock adjacent missing pages for this process to fetch, and return them.

        Wait for the first only: two processes that wait while they hold locks could block each other.
        """
        run: list[int] = []
        for page in missing:
            if run and (page != run[-1] + 1 or (len(run) + 1) * self._page_bytes > _MAX_REQUEST_BYTES):
                break
            name = f"{(int(self._sha256[:8], 16) + page) % _NUM_LOCKS:03d}"
            if not locks.enter_context(self._cache.hold_lock(name, wait=not run)):
                break
            if self._is_here(page):  # another process fetched it while we waited
                break
            run.append(page)
        return run

    def _fetch_run(self, run: list[int]) -> None:
        start, end = run[0] * self._page_bytes, min(self._size, (run[-1] + 1) * self._page_bytes)
        data = retry_transient(lambda: self._request(start, end), self._traffic.report)
        self._get_path(run[0]).parent.mkdir(parents=True, exist_ok=True)
        for page in run:
            aside = self._get_path(page).with_name(f"{storage.ASIDE}{secrets.token_hex(6)}")
            at = page * self._page_bytes - start
            aside.write_bytes(data[at : at + self._get_length(page)])  # no sync: readers find a torn page by its CRC32
            aside.replace(self._get_path(page))
        self._cache.add_fetched(len(data))

    def _request(self, start: int, end: int) -> bytes:
        self._traffic.num_bytes += end - start
        data = storage.read_range_once(self._uri, start, end)
        if len(data) != end - start:  # not transient: the file is another than the one described
            raise EOFError(f"{self._uri} returned {len(data)} of {end - start} bytes from {start} to {end}")
        return data
