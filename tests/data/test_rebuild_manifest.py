"""A manifest that was lost comes back from the shards as it was, or a message says why it cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.checked_files import seal
from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.build.write_shard import make_table, publish_table
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.edit import merge_layers, remove_photos
from pipelines.data.dataset.rebuild_manifest import Recovery, recover_dataset
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, name_shards_file, name_successor, open_dataset, read_table
from pipelines.records import UsageError
from tests.making import files_of, photo, photo_folder, shard_recipe

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]
PLAN = Plan("", "", shard_recipe(shard_bytes=3_000), 3)


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with a duplicate, a rejected file and held-out photos; tests must not change it."""
    root = photo_folder(tmp_path_factory.mktemp("photos"), 30)
    shutil.copy(root / "class0/0000.jpg", root / "again.jpg")
    (root / "notes.txt").write_text("no photo")
    plan = replace(PLAN, root=str(root), out=str(tmp_path_factory.mktemp("recovery") / "data"))
    return build_dataset(plan, silent)


@pytest.fixture
def copy(built: Dataset, tmp_path: Path) -> Path:
    """A copy that may lose files."""
    return Path(shutil.copytree(built.uri, tmp_path / "copy"))


def lose(folder: Path, pattern: str) -> None:
    """Deletes the files of the pattern; there is one at least."""
    for path in list(folder.glob(pattern)) or [folder / "nothing"]:
        path.unlink()


def test_the_build_of_a_dataset_that_lost_its_record_is_refused_and_loses_nothing(copy: Path, tmp_path: Path) -> None:
    add_folder = replace(PLAN, root=str(photo_folder(tmp_path / "more", 33)), out=str(copy))
    changed = add_layer(add_folder, silent)
    lose(copy, COMMIT_FILE)
    before = files_of(copy)
    with pytest.raises(UsageError, match=r"but no dataset.json: rebuild it with `lacuna verify .* --rebuild`"):
        build_dataset(replace(PLAN, root=add_folder.root, out=str(copy)), silent)
    assert files_of(copy) == before
    assert recover_dataset(str(copy), silent).dataset.manifest_sha256 == changed.manifest_sha256


@pytest.mark.parametrize("lost", [[COMMIT_FILE], ["shards-*.parquet"], [COMMIT_FILE, "shards-*.parquet"]], ids=str)
def test_records_come_back_as_they_were(built: Dataset, copy: Path, lost: list[str]) -> None:
    for pattern in lost:
        lose(copy, pattern)
    recovered = recover_dataset(str(copy), silent).dataset
    if len(lost) == 1:
        assert recovered.commit == built.commit
    else:
        assert recovered.root is None  # nothing else says what the root held
        assert recovered.manifest_sha256 == built.manifest_sha256
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
    with pytest.raises(UsageError, match=r"shard 1 of train is missing"):
        recover_dataset(str(copy), silent)
    assert not (copy / COMMIT_FILE).exists()


def test_a_damaged_shard_is_named(copy: Path) -> None:
    lose(copy, COMMIT_FILE)
    shard = next(copy.glob("train/*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match=rf"{shard.name} is damaged"):
        recover_dataset(str(copy), silent)


def a_key(dataset: Dataset, shard: int = 0) -> str:
    """The key of a sample of a shard."""
    rows = read_table(dataset.uri, dataset.shards[shard]).to_pylist()
    return next(str(row["key"]) for row in rows if row["outcome"] == "written")


def test_of_two_generations_the_newer_comes_back(built: Dataset, copy: Path) -> None:
    fewer = remove_photos(str(copy), [a_key(built)], silent)
    lose(copy, COMMIT_FILE)
    assert recover_dataset(str(copy), silent).dataset == fewer
    lose(copy, name_shards_file(fewer.commit["shards_sha256"]))
    assert recover_dataset(str(copy), silent).dataset == fewer
    assert verify_dataset(str(copy))[1] == []


def test_two_generations_of_a_shard_are_not_guessed_at(built: Dataset, copy: Path) -> None:
    remove_photos(str(copy), [a_key(built)], silent)
    for pattern in (COMMIT_FILE, "shards-*.parquet", "successors/*"):
        lose(copy, pattern)
    with pytest.raises(UsageError, match="both claim to be shard 0"):
        recover_dataset(str(copy), silent)


def test_two_lists_without_a_record_are_not_guessed_at(built: Dataset, copy: Path) -> None:
    fewer = remove_photos(str(copy), [a_key(built)], silent)
    for pattern in (COMMIT_FILE, "successors/*"):
        lose(copy, pattern)
    with pytest.raises(UsageError, match="are both intact"):
        recover_dataset(str(copy), silent)
    lose(copy, name_shards_file(built.commit["shards_sha256"]))
    assert recover_dataset(str(copy), silent).dataset == fewer


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """A root with two photos that are new, and two that are not."""
    root = photo_folder(tmp_path / "more", 2)
    for number in (900, 901):
        photo(number).save(root / f"late{number}.png")
    return root


def add_folder(root: Path, out: Path, **changes: Any) -> Dataset:
    """The dataset with a layer of this root."""
    return add_layer(Plan(str(root), str(out), shard_recipe(shard_bytes=3_000, **changes), 3), silent)


def test_a_layer_that_was_not_committed_does_not_come_back(built: Dataset, copy: Path, tmp_path: Path) -> None:
    before = files_of(copy)
    assert add_folder(photo_folder(tmp_path / "known", 3), copy) == replace(built, uri=str(copy))
    assert files_of(copy) == before
    texts = photo_folder(tmp_path / "texts", 1)
    for number in range(40):
        (texts / f"{number}.txt").write_text(f"no photo {number}")
    with pytest.raises(UsageError, match="40 of 41 files"):
        add_folder(texts, copy)
    assert {name for name in files_of(copy) if name.endswith(".tar")} == {n for n in before if n.endswith(".tar")}
    lose(copy, COMMIT_FILE)
    lose(copy, "shards-*.parquet")
    recovered = recover_dataset(str(copy), silent).dataset
    assert recovered.shards == built.shards
    assert recovered.manifest_sha256 == built.manifest_sha256


def test_half_a_layer_is_not_taken_for_one(built: Dataset, copy: Path, more: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(copy, tmp_path / "whole"))
    late = {shard.file for shard in add_folder(more, whole).shards if shard.layer == 1}
    shutil.copy(whole / min(late), copy / min(late))
    lose(copy, COMMIT_FILE)
    assert recover_dataset(str(copy), silent).dataset.commit == built.commit


def test_merged_layers_do_not_come_back_beside_what_they_were_merged_of(tmp_path: Path) -> None:
    root, late, out = photo_folder(tmp_path / "in", 12), photo_folder(tmp_path / "late", 0), tmp_path / "out"
    late.mkdir()
    for number in range(900, 940):
        photo(number).save(late / f"{number}.png")
    first = build_dataset(Plan(str(root), str(out), shard_recipe(shard_bytes=3_000, holdout=0.0), 3), silent)
    assert {shard.split for shard in first.shards} == {"train"}
    layered = add_layer(Plan(str(late), str(out), shard_recipe(shard_bytes=3_000, holdout=0.0), 3), silent)
    merged = merge_layers(str(out), silent)
    lose(out, COMMIT_FILE)
    assert recover_dataset(str(out), silent).dataset == merged
    strays = [shard.file for shard in layered.shards if shard.layer == 1]
    assert strays
    for pattern in (COMMIT_FILE, "shards-*.parquet", "successors/*", *(s.file for s in first.shards)):
        lose(out, pattern)
    with pytest.raises(UsageError, match="both hold"):
        recover_dataset(str(out), silent)
    assert not (out / COMMIT_FILE).exists()


@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_a_table_comes_back_and_what_is_lost_with_it_is_counted(built: Dataset, copy: Path, harm: str) -> None:
    plain = [s for s in built.shards if not s.num_duplicates and not s.num_rejected]
    rich = [s for s in built.shards if s.num_duplicates or s.num_rejected]
    for shard in (plain[0], *rich):
        (copy / shard.table).unlink() if harm == "lost" else (copy / shard.table).write_bytes(b"PAR1 no more")
    recovered = recover_dataset(str(copy), silent)
    assert recovered.num_tables_without_rejections == len(rich)
    assert recovered.dataset.manifest_sha256 == built.manifest_sha256
    ledger = recovered.dataset.commit["ledger"]
    assert ledger == {**built.commit["ledger"], "num_duplicates": 0, "num_rejected": 0, "num_inputs": 30}
    assert [s for s in recovered.dataset.shards if s in plain] == plain
    damaged = {damage.file for damage in verify_dataset(str(copy))[1]}
    assert damaged == set()
    assert recover_dataset(str(copy), silent) == Recovery(recovered.dataset, 0)


def test_the_table_of_another_shard_is_not_taken(built: Dataset, copy: Path) -> None:
    shard = next(s for s in built.shards if s.num_rejected)
    about = {"split": shard.split, "number": shard.number, "layer": 0}
    other = publish_table(str(copy), about, "x.tar", "0" * 64, 9, make_table([]))
    lose(copy, shard.table)
    for pattern in (COMMIT_FILE, "shards-*.parquet"):
        lose(copy, pattern)
    recovered = recover_dataset(str(copy), silent)
    assert recovered.num_tables_without_rejections == 1
    assert other.table not in {s.table for s in recovered.dataset.shards}
    assert verify_dataset(str(copy))[1] == []


def test_a_record_that_was_never_published_and_is_damaged_is_given_up(built: Dataset, copy: Path) -> None:
    record = (copy / COMMIT_FILE).read_bytes()
    remove_photos(str(copy), [a_key(built)], silent)
    torn = copy / name_successor(built.commit)
    torn.write_bytes(torn.read_bytes()[:-1])
    newest = (copy / COMMIT_FILE).read_bytes()
    (copy / COMMIT_FILE).write_bytes(record)
    assert recover_dataset(str(copy), silent).dataset.commit == built.commit
    assert not torn.exists()
    torn.write_bytes(newest[:-1])
    (copy / COMMIT_FILE).write_bytes(newest)
    assert recover_dataset(str(copy), silent).dataset.commit["ledger"]["num_removed"] == 1
    assert verify_dataset(str(copy))[1] == []


def test_a_change_whose_record_was_never_published_is_not_undone(built: Dataset, copy: Path) -> None:
    fewer = remove_photos(str(copy), [a_key(built)], silent)
    (copy / COMMIT_FILE).write_bytes(seal(built.commit))
    assert recover_dataset(str(copy), silent) == Recovery(fewer, 0)
    assert (copy / COMMIT_FILE).read_bytes() == seal(fewer.commit)


def test_another_format_is_not_recovered(built: Dataset, copy: Path) -> None:
    (copy / COMMIT_FILE).write_bytes(seal({**built.commit, "format": 9}))
    with pytest.raises(UsageError, match="has the format 9"):
        recover_dataset(str(copy), silent)


def test_a_place_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no shards at"):
        recover_dataset(str(tmp_path), silent)
