"""Two changes at one place on an object store, where no lock keeps them apart: none undoes what the other did."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import storage
from pipelines.checked_files import seal
from pipelines.data.commit.commit import prune
from pipelines.manifest import COMMIT_FILE, Dataset, name_successor, open_dataset, read_table
from tests.laws.killing import Lacuna, end, finish, kill_group, start, wait_until
from tests.making import photo, photo_folder
from tests.s3 import bucket, objects_of
from tests.sampling import sample_cases

pytestmark = pytest.mark.slow

OPTIONS = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "8000", "--mask-size-px", "32")
NUM_PHOTOS = 24
ONE, TWO = "class0/0002", "class1/0003"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a real server."""
    with bucket(tmp_path_factory.mktemp("s3"), "changes") as uri:
        yield uri


@pytest.fixture(scope="module")
def files(s3: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The objects of a dataset with one layer."""
    root = photo_folder(tmp_path_factory.mktemp("in") / "photos", NUM_PHOTOS)
    finish(*OPTIONS, "--root", str(root), "--out", f"{s3}/first")
    return objects_of(f"{s3}/first")


@pytest.fixture
def place(s3: str, files: dict[str, bytes], request: pytest.FixtureRequest) -> str:
    """A copy of it that may be changed."""
    uri = f"{s3}/{request.node.name.translate(str.maketrans('[]', '--'))}"
    for name, data in files.items():
        storage.publish(storage.join(uri, name), data)
    return uri


def outcome_of(dataset: Dataset) -> dict[str, str]:
    """What became of each key."""
    rows = [row for shard in dataset.shards for row in read_table(dataset.uri, shard).to_pylist()]
    return {row["key"]: row["outcome"] for row in rows}


def check_both(place: str, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """Runs two changes at once, a refused one again, and leaves a whole dataset."""
    processes: list[Lacuna] = [start("--out", place, *words) for words in (first, second)]
    outcomes = [end(process) for process in processes]
    assert 0 in {code for code, _ in outcomes}, outcomes
    for (code, report), words in zip(outcomes, (first, second), strict=True):
        if code:
            assert code == 2, report
            assert "unfinished change" in report["error"] or "run the same command again" in report["error"]
            finish("--out", place, *words)
    assert finish(place, verb="verify")["damaged"] == []
    assert not [name for name in objects_of(place) if name.startswith(".build")]


def test_two_removals_both_hold(place: str) -> None:
    check_both(place, ("--remove", ONE), ("--remove", TWO))
    outcomes = outcome_of(open_dataset(place))
    assert (outcomes[ONE], outcomes[TWO]) == ("removed", "removed")


@pytest.mark.parametrize("other", sample_cases(("--remove", "--prune"), ("--prune",)))
def test_a_layer_and_another_change_both_hold(place: str, tmp_path: Path, other: str) -> None:
    (tmp_path / "more").mkdir()
    photo(900).save(tmp_path / "more" / "late.png")
    check_both(place, ("--add", str(tmp_path / "more")), (other, ONE) if other == "--remove" else (other,))
    outcomes = outcome_of(open_dataset(place))
    assert outcomes["late"] == "written"
    assert outcomes[ONE] == ("removed" if other == "--remove" else "written")


def test_a_removal_that_is_killed_as_it_commits_is_done_by_the_same_command(place: str) -> None:
    before = open_dataset(place)
    claim = storage.join(place, name_successor(before.commit))
    process = start("--out", place, "--remove", ONE)
    assert wait_until(lambda: storage.exists(claim))
    kill_group(process)
    process.communicate()
    storage.publish(storage.join(place, COMMIT_FILE), seal(before.commit))  # as if it had come no further
    assert outcome_of(open_dataset(place))[ONE] == "removed"
    report = finish("--out", place, "--remove", ONE)
    assert report["num_removed"] == 1
    assert storage.read_bytes(storage.join(place, COMMIT_FILE)) == storage.read_bytes(claim)
    prune(place)
    assert finish(place, verb="verify")["damaged"] == []
    assert not [name for name in objects_of(place) if name.startswith(".build")]
