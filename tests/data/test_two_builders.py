"""Two builders at one place on an object store, where no lock keeps them apart: the records decide who came first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.manifest import open_dataset
from tests.laws.killing import end, finish, start
from tests.making import files_of, photo_folder
from tests.s3 import bucket, objects_of

pytestmark = pytest.mark.slow

OPTIONS = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "8000", "--mask-size-px", "32")
NUM_PHOTOS = 60


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a real server."""
    with bucket(tmp_path_factory.mktemp("s3"), "builders") as uri:
        yield uri


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some photos on the local disk."""
    return photo_folder(tmp_path_factory.mktemp("builders"), NUM_PHOTOS)


@pytest.fixture(scope="module")
def alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one builder on a local disk."""
    out = tmp_path_factory.mktemp("alone") / "data"
    finish(*OPTIONS, "--root", str(root), "--out", str(out))
    return files_of(out)


def test_two_builders_of_one_plan_end_with_the_same_dataset(s3: str, root: Path, alone: dict[str, bytes]) -> None:
    words = (*OPTIONS, "--root", str(root), "--out", f"{s3}/same")
    outcomes = [end(process) for process in [start(*words), start(*words)]]
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert {report["manifest_sha256"] for _, report in outcomes} == {finish(*words)["manifest_sha256"]}
    assert objects_of(f"{s3}/same") == alone


def test_of_two_builders_of_different_plans_one_is_refused(s3: str, root: Path) -> None:
    words = (*OPTIONS, "--root", str(root), "--out", f"{s3}/different")
    processes = [start(*words, "--seed", seed) for seed in ("1", "2")]
    (first, one), (second, two) = sorted((end(process) for process in processes), key=lambda outcome: outcome[0])
    assert (first, second) == (0, 2), (one, two)
    assert one["num_written"] == NUM_PHOTOS
    assert "seed = " in two["error"]
    assert finish(f"{s3}/different", verb="verify")["damaged"] == []
    assert open_dataset(f"{s3}/different").manifest_sha256 == one["manifest_sha256"]
