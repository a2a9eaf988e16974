"""Changes of a committed dataset: photos removed, layers added and merged, old files pruned, photos found again."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds

from pipelines.checked_files import seal
from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.commit.commit import commit_dataset, prune
from pipelines.data.commit.lock import claim_workspace, locate_workspace
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.edit import find_photo, merge_layers, remove_photos
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table
from pipelines.records import UsageError
from pipelines.stream.reading import ShardReader
from tests.making import files_of, photo, photo_folder, shard_recipe

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]

NUM_PHOTOS = 36
LATE = range(30, NUM_PHOTOS)
"""The photos that come in a second root."""


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def plan(root: Path, out: Path) -> Plan:
    """The small recipe in many shards, as many for the early photos as for all."""
    return Plan(str(root), str(out), shard_recipe(shard_bytes=1_000), 0)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All photos in one folder, and the same photos in two; the late one holds a repeat and an old photo as well."""
    base = tmp_path_factory.mktemp("roots")
    all_of_them = photo_folder(base / "all", NUM_PHOTOS)
    for number in range(NUM_PHOTOS):
        name = f"class{number % 2}/{number:04d}.{'png' if number % 2 else 'jpg'}"
        target = base / ("late" if number in LATE else "early") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(all_of_them / name, target)
    return {name: base / name for name in ("all", "early", "late")}


@pytest.fixture(scope="module")
def whole(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All photos, built at once; tests must not change it."""
    return build_dataset(plan(roots["all"], tmp_path_factory.mktemp("whole") / "data"), silent)


@pytest.fixture(scope="module")
def layered(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The early photos, then the late ones as a layer; tests must not change it."""
    out = tmp_path_factory.mktemp("layered") / "data"
    build_dataset(plan(roots["early"], out), silent)
    return add_layer(plan(roots["late"], out), silent)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Dataset], str]:
    """Makes a copy that may be changed."""
    return lambda dataset: str(shutil.copytree(dataset.uri, tmp_path / "copy"))


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    """All rows of all tables."""
    return [row for shard in dataset.shards for row in read_table(dataset.uri, shard).to_pylist()]


def list_written_keys(dataset: Dataset) -> list[str]:
    """The keys of all samples, in order."""
    return sorted(row["key"] for row in rows_of(dataset) if row["outcome"] == "written")


def keys_by_webdataset(dataset: Dataset) -> list[str]:
    """The keys that a plain webdataset loop finds in the shards."""
    urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards]
    return sorted(sample["__key__"] for sample in wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def digests(dataset: Dataset) -> set[str]:
    """What the shards digest to."""
    return {shard.sha256 for shard in dataset.shards}


def is_whole(dataset: Dataset) -> bool:
    """Whether verify finds nothing, and webdataset what the manifest says."""
    return verify_dataset(dataset.uri)[1] == [] and keys_by_webdataset(dataset) == list_written_keys(dataset)


def test_a_layer_holds_what_is_new(layered: Dataset) -> None:
    assert len(layered.layers) == 2
    assert layered.commit["ledger"]["num_written"] == NUM_PHOTOS
    assert {row["key"] for row in rows_of(layered) if row["outcome"] == "written"} == set(list_written_keys(layered))
    assert Counter(shard.layer for shard in layered.shards).keys() == {0, 1}
    assert is_whole(layered)


def test_layers_leave_the_shards_of_earlier_ones_alone(
    roots: dict[str, Path], layered: Dataset, tmp_path: Path
) -> None:
    early = build_dataset(plan(roots["early"], tmp_path / "early"), silent)
    assert digests(early) == {shard.sha256 for shard in layered.shards if shard.layer == 0}


def test_merged_layers_are_what_one_build_of_all_photos_makes(
    layered: Dataset, whole: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    merged = merge_layers(copy_of(layered), silent)
    assert merged.commit["num_shards"] == whole.commit["num_shards"]
    assert merged.root == layered.root  # of the first build, here of the early photos
    other = ("layers", "shards_sha256")
    assert {k: v for k, v in merged.commit.items() if k not in other} == {
        k: v for k, v in whole.commit.items() if k not in other
    }
    assert merged.shards == whole.shards
    assert is_whole(merged)
    assert merge_layers(merged.uri, silent) == merged


def test_a_root_that_brings_nothing_new_adds_no_layer(
    roots: dict[str, Path], layered: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    uri = copy_of(layered)
    again = add_layer(plan(roots["late"], Path(uri)), silent)
    assert again.commit == layered.commit
    assert not (Path(uri) / ".build").exists()


def test_a_later_photo_never_takes_an_earlier_ones_key(
    roots: dict[str, Path], layered: Dataset, copy_of: Callable[[Dataset], str], tmp_path: Path
) -> None:
    root = tmp_path / "more"
    for name, number in (("class0/0000.jpg", 700), ("class1/new.png", 701)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(root / name)
    shutil.copy(roots["early"] / "class0/0002.jpg", root / "class0/again.jpg")
    more = add_layer(plan(root, Path(copy_of(layered))), silent)
    rows = {row["source"]: row for shard in more.shards if shard.layer == 2 for row in _rows(more, shard)}
    assert rows["class0/0000.jpg"]["reason"] == "key collision: class0/0000"
    assert rows["class0/again.jpg"]["reason"] == "same bytes as class0/0002"
    assert rows["class1/new.png"]["outcome"] == "written"
    assert is_whole(more)


def _rows(dataset: Dataset, shard: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(dataset.uri, shard).to_pylist()
    return rows


def test_a_layer_needs_a_dataset_and_its_recipe(roots: dict[str, Path], layered: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dataset at"):
        add_layer(plan(roots["late"], tmp_path / "nowhere"), silent)
    other = plan(roots["late"], Path(layered.uri))
    with pytest.raises(UsageError, match="built with min_side_px = 32, not 33"):
        add_layer(replace(other, config=replace(other.config, min_side_px=33)), silent)
    assert not (Path(layered.uri) / ".build").exists()


@pytest.mark.parametrize("pick", [0, 17, 35])
def test_a_removed_photo_changes_one_shard_to_what_a_build_without_it_makes(
    roots: dict[str, Path], whole: Dataset, copy_of: Callable[[Dataset], str], tmp_path: Path, pick: int
) -> None:
    key = list_written_keys(whole)[pick]
    fewer = remove_photos(copy_of(whole), [key], silent)
    assert (len(digests(whole) - digests(fewer)), len(digests(fewer) - digests(whole))) == (1, 1)
    root = shutil.copytree(roots["all"], tmp_path / "without")
    next(root.glob(f"{key}.*")).unlink()
    assert digests(build_dataset(plan(root, tmp_path / "out"), silent)) == digests(fewer)
    ledger = fewer.commit["ledger"]
    assert (ledger["num_inputs"], ledger["num_written"], ledger["num_removed"]) == (NUM_PHOTOS, NUM_PHOTOS - 1, 1)
    assert is_whole(fewer)


def test_what_was_removed_does_not_come_back(
    roots: dict[str, Path], layered: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    key = list_written_keys(layered)[-1]
    fewer = remove_photos(copy_of(layered), [key], silent)
    assert remove_photos(fewer.uri, [key], silent) == fewer
    again = add_layer(plan(roots["all"], Path(fewer.uri)), silent)
    assert list_written_keys(again) == [k for k in list_written_keys(layered) if k != key]
    merged = merge_layers(fewer.uri, silent)
    assert list_written_keys(merged) == list_written_keys(again)
    assert is_whole(merged)


def test_who_reads_the_old_commit_goes_on_until_it_is_pruned(whole: Dataset, copy_of: Callable[[Dataset], str]) -> None:
    uri = copy_of(whole)
    old = open_dataset(uri)
    place = next(i for i, shard in enumerate(old.split("train")) if shard.num_samples)
    gone = sorted(_keys(old, old.split("train")[place]))[0]
    remove_photos(uri, [gone], silent)
    reader = ShardReader((old,), "train")
    assert gone in {reader.read(place, n).key for n in range(old.split("train")[place].num_samples)}
    pruned = prune(uri)
    assert {name.partition("/")[0].partition("-")[0] for name in pruned} == {"train", "tables", "shards"}
    assert verify_dataset(uri)[1] == []
    assert prune(uri) == []


def test_pruning_leaves_the_files_of_others(whole: Dataset, copy_of: Callable[[Dataset], str]) -> None:
    uri = Path(copy_of(whole))
    others = ["mine/foo-000001-0123456789ab.tar", "train/notes.txt", "tables/mine-000001-0123456789ab.parquet"]
    for name in others:
        (uri / name).parent.mkdir(exist_ok=True)
        (uri / name).write_text("not a shard")
    assert prune(str(uri)) == []
    assert all((uri / name).exists() for name in others)


def test_the_command_of_the_build_prunes_nothing(
    roots: dict[str, Path], whole: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    uri = copy_of(whole)
    fewer = remove_photos(uri, list_written_keys(whole)[:1], silent)
    assert not (Path(uri) / ".build").exists()
    assert build_dataset(plan(roots["all"], Path(uri)), silent) == fewer
    assert add_layer(plan(roots["all"], Path(uri)), silent) == fewer
    assert keys_by_webdataset(replace(whole, uri=uri)) == list_written_keys(whole)


def _keys(dataset: Dataset, shard: Any) -> set[str]:
    return {row["key"] for row in _rows(dataset, shard) if row["outcome"] == "written"}


def test_unknown_keys_are_refused_before_anything_is_written(whole: Dataset, copy_of: Callable[[Dataset], str]) -> None:
    uri = copy_of(whole)
    before = {p: p.stat().st_mtime_ns for p in Path(uri).rglob("*")}
    with pytest.raises(UsageError, match=r"1 of 2 keys are not in .*: class0/nobody; nothing was changed"):
        remove_photos(uri, ["class0/nobody", list_written_keys(whole)[0]], silent)
    assert {p: p.stat().st_mtime_ns for p in Path(uri).rglob("*")} == before


def test_a_photo_is_found_in_the_shard_that_holds_it(layered: Dataset) -> None:
    for key in list_written_keys(layered):
        (place,) = find_photo(layered.uri, key)
        assert place["outcome"] == "written"
        shard = next(s for s in layered.shards if s.file == place["shard"])
        assert (place["split"], place["layer"]) == (shard.split, shard.layer)
        assert key in _keys(layered, shard)
    assert find_photo(layered.uri, "class0/nobody") == []


def test_a_duplicate_lies_in_no_shard_and_is_not_removed(
    roots: dict[str, Path], whole: Dataset, copy_of: Callable[[Dataset], str], tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    photo(702).save(tmp_path / "more" / "new.png")
    shutil.copy(roots["all"] / "class0/0000.jpg", tmp_path / "more" / "again.jpg")
    uri = add_layer(plan(tmp_path / "more", Path(copy_of(whole))), silent).uri
    (place,) = find_photo(uri, "again")
    assert (place["outcome"], place["shard"]) == ("duplicate", None)
    with pytest.raises(UsageError, match=r"again \(duplicate: same bytes as class0/0000\); nothing was changed"):
        remove_photos(uri, ["again"], silent)


def test_a_removed_photo_lies_in_no_shard(whole: Dataset, copy_of: Callable[[Dataset], str]) -> None:
    key = list_written_keys(whole)[0]
    uri = remove_photos(copy_of(whole), [key], silent).uri
    assert [(place["outcome"], place["shard"]) for place in find_photo(uri, key)] == [("removed", None)]


def test_of_two_changes_of_one_commit_the_later_is_refused_and_can_be_made_again(
    whole: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    uri, (one, two) = copy_of(whole), list_written_keys(whole)[:2]
    base = open_dataset(uri)
    fewer = remove_photos(uri, [one], silent)
    later = replace(base, commit={**base.commit, "ledger": {}})
    with pytest.raises(UsageError, match=r"changed meanwhile.*run the same command again"):
        commit_dataset(later, base)
    assert open_dataset(uri) == fewer
    assert commit_dataset(fewer, base) == fewer, "the same change by another process"
    assert remove_photos(uri, [two], silent).commit["ledger"]["num_removed"] == 2


def test_a_change_that_was_killed_between_its_claim_and_the_record_is_done(
    whole: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    uri, key = copy_of(whole), list_written_keys(whole)[0]
    record = (Path(uri) / COMMIT_FILE).read_bytes()
    fewer = remove_photos(uri, [key], silent)
    (Path(uri) / COMMIT_FILE).write_bytes(record)
    claim_workspace(locate_workspace(replace(whole, uri=uri)), {"change": "--remove"})
    assert open_dataset(uri) == fewer
    assert verify_dataset(uri)[1] == []
    assert remove_photos(uri, [key], silent) == fewer
    assert (Path(uri) / COMMIT_FILE).read_bytes() == seal(fewer.commit)
    assert not (Path(uri) / ".build").exists()


def test_a_change_waits_for_an_unfinished_one(whole: Dataset, copy_of: Callable[[Dataset], str]) -> None:
    uri = copy_of(whole)
    claim_workspace(locate_workspace(open_dataset(uri)), {"change": "--add"})
    before = files_of(Path(uri))
    for change in (lambda: remove_photos(uri, list_written_keys(whole)[:1], silent), lambda: prune(uri)):
        with pytest.raises(UsageError, match=r"unfinished change \(--add\) in .*To abandon it, delete that folder"):
            change()
    assert files_of(Path(uri)) == before


def test_a_second_builder_does_not_clear_away_what_a_change_has_begun(
    roots: dict[str, Path], whole: Dataset, copy_of: Callable[[Dataset], str]
) -> None:
    uri = copy_of(whole)
    claim_workspace(locate_workspace(open_dataset(uri)), {"change": "--add"})
    begun = Path(uri) / "train" / f"{whole.name}-000000-0123456789ab.tar"
    begun.write_text("a shard of a layer to come")
    claim_workspace(f"{uri}/.build/new", {"change": "first build"})
    before = files_of(Path(uri))
    build_dataset(plan(roots["all"], Path(uri)), silent)
    assert {name for name in before if name not in files_of(Path(uri))} == {".build/new/plan.json"}
