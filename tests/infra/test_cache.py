"""The cache of remote files: the same bytes as the store's, each asked for once, within a limit, whoever is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import retry, storage
from infra.cache import Cache, CachedFile, Traffic, open_default_cache
from infra.settings import PROJECT_ROOT
from pipelines.records import sha256_hex

LARGE = np.random.default_rng(0).bytes(3_000_000)
URI = "memory://cache/large"
PAGE = 1 << 18


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in its store; no long waits for what is not there."""
    monkeypatch.setattr(retry, "WAITS_SECONDS", (0.001,))
    storage.publish(URI, LARGE)


def open_cached(folder: Path, limit_bytes: int = 1 << 30, data: bytes = LARGE) -> tuple[CachedFile, Traffic, Cache]:
    """The file through a cache in this folder, by a process of its own so to say."""
    cache, traffic = Cache(folder, limit_bytes), Traffic()
    return CachedFile(cache, URI, sha256_hex(data), len(data), traffic), traffic, cache


def pages(folder: Path) -> list[Path]:
    """The files that hold pages."""
    return sorted(folder.glob("pages/*/*"))


@settings(max_examples=40)
@given(stretches=st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 700_000)), max_size=6))
def test_any_stretch_is_that_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, stretches: list[tuple[int, int]]
) -> None:
    file, traffic, _ = open_cached(tmp_path_factory.mktemp("cache"))
    for start, length in stretches:
        end = min(start + length, len(LARGE))
        assert file.read(start, end) == LARGE[start:end]
    assert traffic.num_bytes <= len(LARGE)


def test_a_page_is_asked_for_once_by_all_processes(tmp_path: Path) -> None:
    first, first_traffic, _ = open_cached(tmp_path)
    second, second_traffic, _ = open_cached(tmp_path)
    assert first.read(0, 1_500_000) == second.read(0, 1_500_000)
    assert (first_traffic.num_bytes, second_traffic.num_bytes) == (6 * PAGE, 0)


def test_threads_that_want_the_same_page_at_once_ask_once(tmp_path: Path) -> None:
    readers = [open_cached(tmp_path) for _ in range(8)]
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda f=file: found.append(f.read(0, len(LARGE)))) for file, _, _ in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [LARGE] * 8
    assert sum(traffic.num_bytes for _, traffic, _ in readers) == len(LARGE)


def test_what_is_fetched_ahead_is_not_asked_for_again(tmp_path: Path) -> None:
    file, traffic, _ = open_cached(tmp_path)
    file.fetch(100, 2_000_000)
    before = traffic.num_bytes
    assert file.read(100, 2_000_000) == LARGE[100:2_000_000]
    assert traffic.num_bytes == before == 8 * PAGE


def test_the_folder_stays_under_its_limit_and_every_byte_right(tmp_path: Path) -> None:
    file, traffic, cache = open_cached(tmp_path, limit_bytes=4 * PAGE)
    for start in [*range(0, len(LARGE) - 1000, 99_991)] * 2:
        assert file.read(start, start + 1000) == LARGE[start : start + 1000]
    cache.evict()
    assert sum(p.stat().st_size for p in pages(tmp_path)) <= 4 * PAGE
    assert traffic.num_bytes > len(LARGE)


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    file, _, cache = open_cached(tmp_path)
    file.read(0, len(LARGE))
    for age, page in enumerate(pages(tmp_path)):
        os.utime(page, (time.time() - age, time.time() - age))
    cache.limit_bytes = 5 * PAGE
    cache.evict()
    assert [p.name[:6] for p in pages(tmp_path)] == ["000000", "000001", "000002", "000003"]


def test_eviction_leaves_what_another_process_is_writing(tmp_path: Path) -> None:
    file, _, cache = open_cached(tmp_path)
    file.fetch(0, 3 * PAGE)
    aside = pages(tmp_path)[0].with_name(f"{storage.ASIDE}0123")
    aside.write_bytes(b"half a page")
    cache.limit_bytes = PAGE
    cache.evict()
    assert aside.read_bytes() == b"half a page"
    assert len(pages(tmp_path)) < 3


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(PAGE)])
def test_a_page_that_is_not_what_was_stored_is_fetched_again(tmp_path: Path, wrong: bytes) -> None:
    open_cached(tmp_path)[0].read(0, 10)
    pages(tmp_path)[0].write_bytes(wrong)
    file, _, _ = open_cached(tmp_path)
    if len(wrong) == PAGE:  # nothing tells it but the CRC32 of who reads
        file.forget(0, 10)
    assert file.read(0, 10) == LARGE[:10]


def test_another_content_under_the_same_name_is_another_file(tmp_path: Path) -> None:
    open_cached(tmp_path)[0].read(0, 10)
    other = LARGE[::-1]
    storage.publish(URI, other)
    assert open_cached(tmp_path, data=other)[0].read(0, 10) == other[:10]


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    file, traffic, _ = open_cached(tmp_path)
    storage.remove(URI)
    with pytest.raises(FileNotFoundError):
        file.read(0, 10)
    assert len(traffic.drain()) == 1
    assert traffic.drain() == []


def test_a_file_shorter_than_it_was_is_reported_at_once(tmp_path: Path) -> None:
    file, traffic, _ = open_cached(tmp_path)
    storage.publish(URI, LARGE[:1000])
    with pytest.raises(EOFError, match=f"{URI} returned 1000 of {PAGE} bytes from 0 to {PAGE}"):
        file.read(0, 10)
    assert traffic.incidents == []
    assert pages(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from infra.cache import Cache, CachedFile, Traffic

class Killed(CachedFile):
    def _request(self, start, end):
        os.kill(os.getpid(), signal.SIGKILL)

folder, sha256, size = sys.argv[1:]
Killed(Cache(Path(folder), 1 << 30), "memory://cache/large", sha256, int(size), Traffic()).read(0, 10)
"""


def test_a_process_killed_while_it_fetches_blocks_nobody(tmp_path: Path) -> None:
    arguments = [str(tmp_path), sha256_hex(LARGE), str(len(LARGE))]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=PROJECT_ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "pages" / sha256_hex(LARGE)).mkdir(parents=True, exist_ok=True)
    aside = tmp_path / "pages" / sha256_hex(LARGE) / f"{storage.ASIDE}left"
    aside.write_bytes(LARGE[:500])
    os.utime(aside, (0, 0))
    file, _, cache = open_cached(tmp_path)
    assert file.read(0, len(LARGE)) == LARGE
    cache.evict()
    assert not aside.exists()


def test_a_page_that_is_truncated_while_it_is_open_is_fetched_again(tmp_path: Path) -> None:
    file, _, _ = open_cached(tmp_path)
    assert file.read(0, 10) == LARGE[:10]
    os.truncate(pages(tmp_path)[0], 5)
    assert file.read(0, 10) == LARGE[:10]


def test_nothing_lies_past_the_end(tmp_path: Path) -> None:
    file, _, _ = open_cached(tmp_path)
    assert file.read(len(LARGE) - 3, len(LARGE)) == LARGE[-3:]
    for end in (len(LARGE) + 1, 3 * len(LARGE)):
        with pytest.raises(EOFError, match=f"has {len(LARGE)} bytes, fewer than {end}"):
            file.read(len(LARGE) - 3, end)


def test_a_cache_of_less_than_some_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"set LACUNA_CACHE_BYTES to at least {4 * PAGE}"):
        CachedFile(Cache(tmp_path, 4 * PAGE - 1), URI, sha256_hex(LARGE), len(LARGE), Traffic())


def test_readers_of_a_process_share_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path))
    assert open_default_cache() is open_default_cache()
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "other"))
    assert open_default_cache().folder == tmp_path / "other"


def test_an_unusable_folder_or_size_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"could not make the cache folder .*file/cache .*: set LACUNA_CACHE"):
        open_default_cache()
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path))
    for wrong in ("much", "-1", "1.5"):
        monkeypatch.setenv("LACUNA_CACHE_BYTES", wrong)
        with pytest.raises(OSError, match=f"LACUNA_CACHE_BYTES is '{wrong}': give a whole number of bytes"):
            open_default_cache()


def test_the_environment_says_where_and_how_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("LACUNA_CACHE_BYTES", "12345")
    cache = open_default_cache()
    assert (cache.folder, cache.limit_bytes) == (tmp_path / "mine", 12345)
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0
