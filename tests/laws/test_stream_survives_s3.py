"""The stream and an object store that fails, is slow, forgets, or has a small cache before it: the same sequence.

A proxy before a real S3 server makes requests for shards fail by plan and keeps account of them.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import fsspec
import pytest

from infra import retry, storage
from infra.world import World
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import CorruptDataError
from tests.laws.failing_store import FAULTS, Account, Plan, Request, failing_store
from tests.laws.streaming import BATCH, batches, digest, lines, said_by, start_rank
from tests.s3 import bucket

pytestmark = pytest.mark.slow

NUM_STEPS: Final = 24
"""More than two epochs of the sixty photos."""
NUM_PLANS: Final = int(os.environ.get("LACUNA_SOAK_PLANS", "3"))


@pytest.fixture(scope="module")
def run_undisturbed(noise: Dataset) -> list[str]:
    """What a rank says that reads them there."""
    return lines(noise.uri, NUM_STEPS)


@pytest.fixture(scope="module")
def store(noise: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same on an S3 server."""
    with bucket(tmp_path_factory.mktemp("s3"), "stream") as uri:
        for name, _ in storage.list_files(noise.uri):
            storage.publish(storage.join(uri, name), storage.read_bytes(storage.join(noise.uri, name)))
        yield uri


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test alone, and short waits between tries."""
    monkeypatch.setenv("LACUNA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "WAITS_SECONDS", (0.02,) * len(retry.WAITS_SECONDS))


@contextmanager
def through(plan: Plan) -> Iterator[Account]:
    """For the time of the block requests of this process and its children go by a store that fails by plan."""
    with failing_store(os.environ["AWS_ENDPOINT_URL"], plan) as (endpoint, account), pytest.MonkeyPatch.context() as p:
        p.setenv("AWS_ENDPOINT_URL", endpoint)
        fsspec.filesystem("s3").clear_instance_cache()
        yield account
    fsspec.filesystem("s3").clear_instance_cache()


def is_shard(request: Request) -> bool:
    """Whether a request is for bytes of a shard."""
    return request.path.endswith(".tar")


def well(request: Request, number: int) -> str:
    """A store that never fails."""
    return ""


def plan_runs(seed: int) -> Plan:
    """Up to three faults, drawn for each stretch of a shard, before it is given."""

    def plan(request: Request, number: int) -> str:
        if not is_shard(request):
            return ""
        rng = KeyedRng(seed, "faults", request.method, request.path, request.stretch)
        drawn = [FAULTS[rng.integer(0, len(FAULTS) - 1)] for _ in range(rng.integer(0, 3))]
        faults = [fault for one in drawn for fault in [one] * (2 if one == "reset" else 1)]
        return faults[number] if number < len(faults) else ""

    return plan


def num_to_report(account: Account) -> int:
    """Failed requests; of two resets one, for HTTP clients open a new connection when theirs is reset."""
    faults = Counter(fault for _, fault in account.requests)
    return sum(faults[fault] for fault in ("500", "503", "404", "cut")) + faults["reset"] // 2


@pytest.mark.parametrize("num_loader_workers", [0, 2])
@pytest.mark.parametrize("seed", range(NUM_PLANS))
def test_a_store_that_fails_changes_nothing_and_every_failure_is_reported(
    store: str, run_undisturbed: list[str], seed: int, num_loader_workers: int
) -> None:
    with through(plan_runs(seed)) as account:
        taken = list(batches(store, 0, NUM_STEPS, num_loader_workers))
    assert [f"{BATCH * n} {digest(batch)}" for n, batch in enumerate(taken)] == run_undisturbed
    incidents = [incident for batch in taken for incident in batch.incidents]
    assert len(incidents) == num_to_report(account) > 0, (incidents, account.requests)
    assert all("failed" in incident for incident in incidents)


@pytest.mark.parametrize("num_loader_workers", [0, 2])
def test_a_shard_that_vanishes_for_good_is_damage_that_names_it(
    store: str, run_undisturbed: list[str], num_loader_workers: int
) -> None:
    lost = max(open_dataset(store).split("train"), key=lambda shard: shard.size_bytes).file
    assert_stops(
        store, run_undisturbed, num_loader_workers, gone(lost), CorruptDataError, f"{re.escape(lost)} is missing"
    )


@pytest.mark.parametrize("num_loader_workers", [0, 2])
def test_a_store_that_fails_for_long_is_no_damage(
    store: str, run_undisturbed: list[str], num_loader_workers: int
) -> None:
    assert_stops(store, run_undisturbed, num_loader_workers, busy_for_ever, OSError, "by plan")


def gone(file: str) -> Plan:
    """A store that has lost a file."""
    return lambda request, _: "404" if request.path.endswith(file) else ""


def busy_for_ever(request: Request, number: int) -> str:
    """A store that gives no byte of a shard, but lists what there is."""
    return "503" if is_shard(request) else ""


def assert_stops(
    store: str, run_undisturbed: list[str], num_loader_workers: int, plan: Plan, fault: type[Exception], message: str
) -> None:
    """The stream ends with this fault, and what came before it is the undisturbed sequence."""
    said: list[str] = []
    with through(plan), pytest.raises(fault, match=message):
        for number, batch in enumerate(batches(store, 0, NUM_STEPS, num_loader_workers)):
            said.append(f"{BATCH * number} {digest(batch)}")
    assert said == run_undisturbed[: len(said)]
    assert len(said) < NUM_STEPS


def test_a_cache_far_smaller_than_the_dataset_gives_the_same_sequence(
    store: str, run_undisturbed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_CACHE_BYTES", str(size_of_shards(store) // 4))
    with through(well) as account:
        assert lines(store, NUM_STEPS) == run_undisturbed
    assert num_bytes(account) > 1.5 * size_of_shards(store), "nothing had to be fetched again"


def test_two_ranks_of_a_node_with_two_loaders_each_ask_for_each_byte_once(
    store: str, run_undisturbed: list[str], tmp_path: Path
) -> None:
    files = [tmp_path / "rank0", tmp_path / "rank1"]
    with through(well) as account:
        ranks = [start_rank(store, said, NUM_STEPS, 2, World(n, 2)) for n, said in enumerate(files)]
        ends = [(rank.communicate(timeout=120)[1], rank.returncode) for rank in ranks]
    assert [code for _, code in ends] == [0, 0], ends
    assert num_bytes(account) == size_of_shards(store)
    assert [len(said_by(said)) for said in files] == [NUM_STEPS, NUM_STEPS]


def size_of_shards(uri: str) -> int:
    """Bytes of all shards that are trained on."""
    return sum(shard.size_bytes for shard in open_dataset(uri).split("train") if shard.num_samples)


def num_bytes(account: Account) -> int:
    """How many bytes of shards were asked for, as often as they were."""
    stretches = [
        request.stretch.removeprefix("bytes=").split("-") for request in account.list_answered() if is_shard(request)
    ]
    return sum(int(last) + 1 - int(first) for first, last in stretches)
