"""Creation: of many that make the same file at the same moment one wins, and nobody ever sees it by half."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra import storage
from tests.s3 import bucket

NUM_THREADS, NUM_ROUNDS = 8, 10
SIZE = 1 << 18


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a real server."""
    with bucket(tmp_path_factory.mktemp("s3"), "creation") as uri:
        yield uri


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder on the local disk, and one on an object store."""
    return str(tmp_path / "place" if request.param == "local" else request.getfixturevalue("s3"))


def test_one_of_eight_wins_and_its_bytes_stay(place: str) -> None:
    for turn in range(NUM_ROUNDS):
        uri, together = storage.join(place, f"{turn}", "file"), threading.Barrier(NUM_THREADS)

        def race(number: int, uri: str = uri, together: threading.Barrier = together) -> tuple[bool, bytes]:
            together.wait()
            won = storage.create(uri, bytes([number]) * SIZE)
            return won, storage.read_bytes(uri)

        with ThreadPoolExecutor(NUM_THREADS) as pool:
            outcomes = list(pool.map(race, range(NUM_THREADS)))
        (winner,) = (number for number, (won, _) in enumerate(outcomes) if won)
        assert {seen for _, seen in outcomes} == {bytes([winner]) * SIZE}
        assert [path for path, _ in storage.list_files(storage.join(place, f"{turn}"))] == ["file"]


def test_who_looks_on_sees_nothing_or_all(place: str) -> None:
    uris = [storage.join(place, "watched", f"{turn}") for turn in range(NUM_ROUNDS)]
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.extend(len(storage.read_bytes(uri)) for uri in uris if storage.exists(uri))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert all(storage.create(uri, bytes(SIZE)) for uri in uris)
    finally:
        done.set()
        watcher.join()
    assert set(seen) <= {SIZE}


def test_what_is_there_stays(place: str) -> None:
    uri = storage.join(place, "there")
    storage.publish(uri, b"first")
    assert not storage.create(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
