"""Laws 3, 6 and 9 on an object store: a training whose `--out` is on S3 is, bit for bit, the one of a local folder.

The server is SeaweedFS, see tests/s3.py.
"""

import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from infra import storage
from pipelines.checkpoints import Checkpoint, find_latest_checkpoint, find_newest_clock, open_checkpoint
from pipelines.manifest import Dataset
from tests.laws.ends import same_end, check_reported_once
from tests.laws.killing import end, kill_driver, wait_until
from tests.laws.trainings import IMAGES, clock, finish_training, start_training
from tests.making import files_of
from tests.s3 import bucket, objects_of

pytestmark = pytest.mark.slow

MODEL: Final = "deepgin"
_MOMENTS_SECONDS: Final = 0.5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with one empty bucket; this process's environment leads to it."""
    with bucket(tmp_path_factory.mktemp("s3"), "trainings") as uri:
        yield uri


@pytest.fixture(scope="module")
def local(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training to its end in a local folder."""
    out = tmp_path_factory.mktemp("local") / "run"
    finish_training(MODEL, dataset.uri, out)
    return out


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the training on S3 has its MLflow database and its stderr."""
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def remote(dataset: Dataset, store: str, beside: Path) -> str:
    """The same on S3."""
    out = f"{store}/run"
    finish_training(MODEL, dataset.uri, out, beside=beside)
    return out


def test_a_training_on_s3_is_the_one_of_a_local_folder(local: Path, remote: str, beside: Path) -> None:
    same_end(local, remote)
    check_reported_once(remote, beside)
    here, there = files_of(local), objects_of(remote)
    assert here.keys() == there.keys()
    fills = {name for name in here if name.startswith("fills/")}
    assert len(fills) == IMAGES // 16
    assert {name: here[name] for name in fills} == {name: there[name] for name in fills}


def test_a_training_on_s3_that_is_killed_ends_as_the_undisturbed_one(
    local: Path, store: str, dataset: Dataset, tmp_path: Path
) -> None:
    out, chance = f"{store}/killed", random.Random(time.time_ns())
    process, there = start_training(MODEL, dataset.uri, out, beside=tmp_path), chance.randrange(IMAGES // 2)
    assert wait_until(lambda: clock(out) > there or process.poll() is not None)
    time.sleep(chance.uniform(0, _MOMENTS_SECONDS))
    assert process.poll() is None
    kill_driver(process)
    assert find_newest_clock(out) < IMAGES, "the training was over: nothing is proved"
    assert end(process) == (-9, {})
    finish_training(MODEL, dataset.uri, out, beside=tmp_path)
    same_end(local, out)
    check_reported_once(out, tmp_path)


def damage(uri: str) -> bytes:
    """Flips a random bit of the object; returns what it was."""
    data, chance = storage.read_bytes(uri), random.Random(time.time_ns())
    worse = bytearray(data)
    worse[chance.randrange(len(worse))] ^= 1 << chance.randrange(8)
    storage.publish(uri, bytes(worse))
    return data


def objects_below(checkpoint: Checkpoint) -> list[str]:
    """The URI of every object of a checkpoint."""
    return [storage.join(checkpoint.uri, name) for name, _ in storage.list_files(checkpoint.uri)]


def test_a_damaged_object_of_the_newest_checkpoint_is_named_and_the_one_before_is_taken(
    remote: str, caplog: pytest.LogCaptureFixture
) -> None:
    objects = objects_below(open_checkpoint(remote))
    assert len(objects) == 5
    for uri in objects:
        undamaged = damage(uri)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = find_latest_checkpoint(remote)
        assert found is not None
        assert found.images_seen == IMAGES - 16
        (warning,) = (record.getMessage() for record in caplog.records if "checkpoint refused" in record.getMessage())
        assert uri in warning
        storage.publish(uri, undamaged)
    assert open_checkpoint(remote).images_seen == IMAGES


def test_a_training_on_s3_whose_end_is_damaged_goes_on_from_the_one_before(
    local: Path, remote: str, dataset: Dataset, beside: Path
) -> None:
    uri = random.choice(objects_below(open_checkpoint(remote)))
    damage(uri)
    finish_training(MODEL, dataset.uri, remote, beside=beside)
    assert uri in (beside / "stderr").read_text()
    same_end(local, remote)
    check_reported_once(remote, beside)
