"""The stream and SIGKILL: no hang, nothing in another order, no orphans, and nothing left that stops the next start.

LACUNA_SOAK_KILLS says how many ranks and loader processes are killed at work; half as many die while pages are fetched.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import fsspec
import pytest

from infra import storage
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset
from tests.laws.failing_store import Account, Request, failing_store
from tests.laws.killing import children, kill, wait_until
from tests.laws.streaming import Rank, lines, said_by, start_rank
from tests.s3 import bucket

pytestmark = pytest.mark.slow

NUM_KILLS: Final = int(os.environ.get("LACUNA_SOAK_KILLS", "4"))
NUM_STEPS, NUM_LOADERS = 40, 2
SECONDS_TO_END: Final = 30
"""Of a process whose counterpart is gone; torch looks for it every 5 s."""


@pytest.fixture(scope="module")
def run_undisturbed(noise: Dataset) -> list[str]:
    """What a rank says that nobody kills, alone and without loader processes."""
    return lines(noise.uri, NUM_STEPS)


@pytest.fixture(scope="module")
def slow_store(noise: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Account]]:
    """The dataset on an S3 server that takes its time for shards, and the account of requests."""
    with bucket(tmp_path_factory.mktemp("s3"), "kills") as uri, pytest.MonkeyPatch.context() as patch:
        for name, _ in storage.list_files(noise.uri):
            storage.publish(storage.join(uri, name), storage.read_bytes(storage.join(noise.uri, name)))
        with failing_store(os.environ["AWS_ENDPOINT_URL"], _slowly) as (endpoint, account):
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            fsspec.filesystem("s3").clear_instance_cache()
            yield uri, account


def _slowly(request: Request, number: int) -> str:
    return "delay" if request.path.endswith(".tar") else ""


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or is dead and waits for somebody to ask how."""
    with suppress(OSError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def loaders_of(rank: Rank) -> list[int]:
    """Its loader processes, once all are there."""
    assert wait_until(lambda: len(children(rank.pid)) == NUM_LOADERS)
    return children(rank.pid)


def kill_rank(rank: Rank, loaders: list[int]) -> None:
    """The rank dies; its loaders end by themselves."""
    kill(rank.pid)
    rank.communicate(timeout=SECONDS_TO_END)
    deadline = time.monotonic() + SECONDS_TO_END
    while not all(map(has_ended, loaders)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in loaders if not has_ended(pid)] == []


def kill_loader(rank: Rank, loaders: list[int]) -> None:
    """One of its loaders dies; the rank says so and ends, and so does the other one."""
    victim = loaders[rank.pid % NUM_LOADERS]
    kill(victim)
    _, stderr = rank.communicate(timeout=SECONDS_TO_END)
    assert rank.returncode == 1
    assert "a loader worker failed" in stderr or f"DataLoader worker (pid {victim}) is killed" in stderr, stderr
    assert all(map(has_ended, loaders))


Death = Callable[[Rank, list[int]], None]
DEATHS: Final[tuple[Death, ...]] = (kill_rank, kill_loader)


def kill_run(uri: str, said: Path, death: Death, is_time: Callable[[], bool]) -> None:
    """A rank that is started on what is left, and dies this death when it is time; leaves no shared memory."""
    rank = start_rank(uri, said, NUM_STEPS, NUM_LOADERS)
    loaders = loaders_of(rank)
    assert wait_until(lambda: is_time() or rank.poll() is not None)
    assert rank.poll() is None, "it was to be killed at work"
    death(rank, loaders)
    owners = tuple(f"torch_{pid}_" for pid in (rank.pid, *loaders))
    assert [name for name in os.listdir("/dev/shm") if name.startswith(owners)] == []  # noqa: PTH208 - names only


def has_said(said: Path, num_lines: int) -> bool:
    """Whether a rank has made so many steps."""
    return len(said_by(said)) >= num_lines


def has_asked(account: Account, num_requests: int) -> bool:
    """Whether stretches of shards were asked for so often; each takes a while."""
    return num_shard_requests(account) >= num_requests


def finish(uri: str, said: Path, num_loader_workers: int) -> None:
    """Draws what is left, to a good end."""
    rank = start_rank(uri, said, NUM_STEPS, num_loader_workers)
    _, stderr = rank.communicate(timeout=4 * SECONDS_TO_END)
    assert rank.returncode == 0, stderr


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.__name__)
@pytest.mark.parametrize("seed", range(NUM_KILLS // 4))
def test_a_sequence_with_deaths_in_it_is_the_undisturbed_one(
    noise: Dataset, run_undisturbed: list[str], tmp_path: Path, death: Death, seed: int
) -> None:
    rng, said, moment = KeyedRng(seed, "deaths", death.__name__), tmp_path / "said", 0
    for _ in range(2):
        moment = max(len(said_by(said)), moment) + rng.integer(0, 10)
        kill_run(noise.uri, said, death, partial(has_said, said, moment))
        assert said_by(said) == run_undisturbed[: len(said_by(said))]
    finish(noise.uri, said, rng.integer(0, 3))
    assert said_by(said) == run_undisturbed


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.__name__)
def test_deaths_while_pages_are_fetched_stop_nobody(
    slow_store: tuple[str, Account],
    run_undisturbed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    death: Death,
) -> None:
    uri, account = slow_store
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LACUNA_CACHE_BYTES", "600000")  # less than what is drawn, so that pages go and come
    said = tmp_path / "said"
    for _ in range(NUM_KILLS // 4):
        more = num_shard_requests(account) + 2
        kill_run(uri, said, death, partial(has_asked, account, more))
        assert said_by(said) == run_undisturbed[: len(said_by(said))]
    finish(uri, said, NUM_LOADERS)
    assert said_by(said) == run_undisturbed


def num_shard_requests(account: Account) -> int:
    """How often stretches of shards were asked for so far."""
    return sum(request.path.endswith(".tar") for request, _ in account.requests)
