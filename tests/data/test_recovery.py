"""A manifest that was lost comes back from the shards as it was, or a message says why it cannot."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.data.build import build_dataset
from pipelines.data.change import remove_photos
from pipelines.data.recovery import recover_dataset
from pipelines.data.verify import verify_dataset
from pipelines.data.workspace import Plan
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table
from pipelines.records import Refused
from tests.making import photo_folder, shard_recipe

pytestmark = pytest.mark.usefixtures("ray_cluster")


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with a duplicate, a rejected file and held-out photos; tests must not change it."""
    root = photo_folder(tmp_path_factory.mktemp("photos"), 30)
    shutil.copy(root / "class0/0000.jpg", root / "again.jpg")
    (root / "notes.txt").write_text("no photo")
    plan = Plan(str(root), str(tmp_path_factory.mktemp("recovery") / "data"), shard_recipe(shard_bytes=3_000), 3)
    return build_dataset(plan, silent)


@pytest.fixture
def copy(built: Dataset, tmp_path: Path) -> Path:
    """A copy that may lose files."""
    return Path(shutil.copytree(built.uri, tmp_path / "copy"))


def lose(folder: Path, pattern: str) -> None:
    """Deletes the files of the pattern; there is one at least."""
    for path in list(folder.glob(pattern)) or [folder / "nothing"]:
        path.unlink()


@pytest.mark.parametrize("lost", [[COMMIT_FILE], ["shards-*.parquet"], [COMMIT_FILE, "shards-*.parquet"]], ids=str)
def test_records_come_back_as_they_were(built: Dataset, copy: Path, lost: list[str]) -> None:
    for pattern in lost:
        lose(copy, pattern)
    recovered = recover_dataset(str(copy), silent).dataset
    assert recovered.commit == built.commit
    assert recovered.shards == built.shards
    assert open_dataset(str(copy)) == recovered
    assert verify_dataset(str(copy))[1] == []


def test_tables_come_back_with_every_sample(built: Dataset, copy: Path) -> None:
    lose(copy, "tables/*")
    lose(copy, COMMIT_FILE)
    recovered = recover_dataset(str(copy), silent).dataset
    assert recovered.manifest_sha256 == built.manifest_sha256
    assert recovered.commit["ledger"]["num_written"] == built.commit["ledger"]["num_written"]
    for old, new in zip(built.shards, recovered.shards, strict=True):
        before = [row for row in read_table(built.uri, old).to_pylist() if row["outcome"] == "written"]
        assert read_table(str(copy), new).to_pylist() == before
    assert verify_dataset(str(copy))[1] == []


def test_a_damaged_commit_record_comes_back(built: Dataset, copy: Path) -> None:
    record = json.loads((copy / COMMIT_FILE).read_bytes())
    (copy / COMMIT_FILE).write_text(json.dumps(record | {"seed": 4}))
    assert recover_dataset(str(copy), silent).dataset.commit == built.commit


def test_what_is_whole_is_left_alone(copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    recover_dataset(str(copy), silent)
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before


def test_a_missing_shard_is_named(copy: Path) -> None:
    lose(copy, COMMIT_FILE)
    lose(copy, "train/*-000001-*.tar")
    with pytest.raises(Refused, match=r"shard 1 of train is missing"):
        recover_dataset(str(copy), silent)
    assert not (copy / COMMIT_FILE).exists()


def test_a_damaged_shard_is_named(copy: Path) -> None:
    lose(copy, COMMIT_FILE)
    shard = next(copy.glob("train/*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(Refused, match=rf"{shard.name} is damaged"):
        recover_dataset(str(copy), silent)


def test_two_generations_of_a_shard_are_not_guessed_at(built: Dataset, copy: Path) -> None:
    key = next(row["key"] for row in read_table(built.uri, built.shards[0]).to_pylist() if row["outcome"] == "written")
    remove_photos(str(copy), [key], silent)
    lose(copy, COMMIT_FILE)
    with pytest.raises(Refused, match="both say that they are shard 0"):
        recover_dataset(str(copy), silent)


def test_a_place_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no shards at"):
        recover_dataset(str(tmp_path), silent)
