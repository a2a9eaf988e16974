"""What a root holds is part of what was asked: another root at the same place is refused, a moved one is the same."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import storage
from jobs import demo, shard
from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.build.roots import make_root_record
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.commit.commit import describe_dataset, publish_commit, publish_shards
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.edit import merge_layers, remove_photos
from pipelines.data.dataset.rebuild_manifest import recover_dataset
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset
from pipelines.records import UsageError
from tests.data.building import build_folder, silent
from tests.data.trees import PACKERS, zip_bytes
from tests.making import files_of, photo, photo_folder, shard_recipe

OTHER = r"--root .* differs from the root that .* is being or was built from \({}\): .*--add ROOT"
PATHS = st.lists(st.sampled_from(["a", "b.jpg", "é.png", "x y", "x_seg.png", "_mask", "masks"]), min_size=1, max_size=3)
TREES = st.dictionaries(PATHS.map("/".join), st.integers(0, 3), max_size=6).filter(
    lambda tree: not any(other.startswith(f"{path}/") for path in tree for other in tree)
)


def record(uri: str, source: str = "folder") -> dict[str, Any]:
    """The record of a root."""
    return make_root_record(Plan(uri, "memory://nowhere", shard_recipe(source=source), 0))


def make(uri: str, tree: dict[str, int], backwards: bool = False) -> str:
    """Files of these sizes."""
    fs, path = storage.locate(uri)
    fs.makedirs(path, exist_ok=True)
    for name in sorted(tree, reverse=backwards):
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", b"x" * tree[name])
    return uri


@settings(max_examples=60)
@given(trees=st.tuples(TREES, TREES))
def test_records_are_equal_where_names_and_sizes_are_wherever_the_root_lies(
    trees: tuple[dict[str, int], dict[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        here, there = (record(make(f"{folder}/{number}", tree)) for number, tree in enumerate(trees))
        assert (here == there) == (trees[0] == trees[1])
        moved = record(make(f"memory://{Path(folder).name}", trees[0], backwards=True))
        assert moved == here
        assert (here["num_files"], here["num_bytes"]) == (len(trees[0]), sum(trees[0].values()))
    fsspec.filesystem("memory").rm(f"/{Path(folder).name}", recursive=True)


def test_what_operating_systems_leave_is_no_change(tmp_path: Path) -> None:
    tree = {"a/b.jpg": 1, "c.png": 2}
    left = tree | {".DS_Store": 6, "a/._b.jpg": 7, "__MACOSX/c": 8, "Thumbs.db": 9}
    assert record(make(f"{tmp_path}/1", tree)) == record(make(f"{tmp_path}/2", left))


def test_files_that_a_source_does_not_list_are_no_change_and_its_list_is_one(tmp_path: Path) -> None:
    make(str(tmp_path), {"img_align_celeba/000001.jpg": 3, "img_align_celeba/000002.jpg": 4})
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n")
    before = record(str(tmp_path), "celeba")
    (tmp_path / "readme.txt").write_text("not listed")
    assert record(str(tmp_path), "celeba") == before
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 1\n000002.jpg 1\n")
    assert record(str(tmp_path), "celeba") != before


def test_an_archive_counts_by_its_size_and_its_ends_and_is_not_unpacked(tmp_path: Path) -> None:
    one, two = ({name: bytes([value]) * 5 for name in ("a.jpg", "b.jpg")} for value in (1, 2))
    for suffix in (".zip", ".tgz"):
        for name, tree in (("one", one), ("again", one), ("two", two)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"x{suffix}").write_bytes(PACKERS[suffix](tree))
        if suffix == ".tgz":  # gzip writes the time
            shutil.copy(tmp_path / "one/x.tgz", tmp_path / "again/x.tgz")
        records = {name: record(f"{tmp_path}/{name}/x{suffix}") for name in ("one", "again", "two")}
        assert records["one"] == records["again"] != records["two"]
        assert records["one"]["num_files"] == records["one"]["archives"] == 1


@pytest.mark.usefixtures("ray_cluster")
def test_another_root_is_refused_and_a_moved_one_is_not(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 12)
    dataset = build_folder(root, tmp_path / "out")
    before = files_of(tmp_path / "out")
    other = photo_folder(tmp_path / "other", 14)
    with pytest.raises(UsageError, match=OTHER.format(r"12 files, \d+ bytes then, 14 files, \d+ bytes now")):
        build_folder(other, tmp_path / "out")
    moved = root.rename(tmp_path / "moved")
    (moved / ".DS_Store").write_bytes(b"left")
    assert build_folder(moved, tmp_path / "out") == dataset
    (moved / "class0/0000.jpg").rename(moved / "class0/9999.jpg")
    with pytest.raises(UsageError, match=OTHER.format("other names or single sizes")):
        build_folder(moved, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.usefixtures("ray_cluster")
def test_a_build_is_compared_with_its_first_layer_whatever_came_after(tmp_path: Path) -> None:
    root, late = photo_folder(tmp_path / "in", 10), tmp_path / "late"
    late.mkdir()
    photo(900).save(late / "late.png")
    dataset = build_folder(root, tmp_path / "out")
    add_layer(Plan(str(late), dataset.uri, shard_recipe(), 0), silent)
    assert len(build_folder(root, tmp_path / "out").layers) == 2
    remove_photos(dataset.uri, ["class0/0002"], silent)
    merge_layers(dataset.uri, silent)
    assert build_folder(root, tmp_path / "out").layers[0]["root"] == dataset.root
    shutil.copy(late / "late.png", root / "late.png")
    with pytest.raises(UsageError, match=OTHER.format(".*")):
        build_folder(root, tmp_path / "out")


@pytest.mark.usefixtures("ray_cluster")
def test_an_unfinished_build_goes_on_from_a_moved_root_and_refuses_a_changed_one(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 12)
    whole = build_folder(root, tmp_path / "whole")
    plan = Plan(str(root), str(tmp_path / "out"), shard_recipe(), 0)
    with pytest.raises(RuntimeError, match="stop"):
        build_dataset(plan, _stop_at("naming"))
    added = photo_folder(tmp_path / "added", 12)
    photo(901).save(added / "class0/0001.png")
    with pytest.raises(UsageError, match=OTHER.format(r"12 files.*13 files.*; first class0/0001\.png")):
        build_dataset(Plan(str(added), plan.out, plan.config, 0), silent)
    moved = root.rename(tmp_path / "moved")
    assert build_dataset(Plan(str(moved), plan.out, plan.config, 0), silent).commit == whole.commit
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def _stop_at(step: str) -> Any:
    def progress(what: str, done: int, total: int) -> None:
        if what == step:
            raise RuntimeError("stop")

    return progress


@pytest.mark.usefixtures("ray_cluster")
def test_an_archive_may_move_once_it_is_built(tmp_path: Path) -> None:
    packed = tmp_path / "all.zip"
    packed.write_bytes(zip_bytes(files_of(photo_folder(tmp_path / "in", 6))))
    dataset = build_folder(packed, tmp_path / "out")
    moved = packed.rename(tmp_path / "renamed.zip")
    assert build_folder(moved, tmp_path / "out") == dataset
    moved.write_bytes(zip_bytes(files_of(photo_folder(tmp_path / "in", 7))))
    with pytest.raises(UsageError, match=OTHER.format("1 files, .*")):
        build_folder(moved, tmp_path / "out")


def make_older(dataset: Dataset) -> None:
    """Makes the dataset one of an older version, whose record does not say what its root held."""
    commit = dataset.commit
    layers = [{name: value for name, value in layer.items() if name != "root"} for layer in dataset.layers]
    older = describe_dataset(dataset.uri, commit["recipe"], commit["seed"], layers, dataset.shards)
    publish_shards(older)
    publish_commit(older)


@pytest.mark.usefixtures("ray_cluster")
def test_an_older_dataset_is_compared_as_it_was_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photo_folder(tmp_path / "in", 6)
    words = ["--source", "folder", "--root", str(root), "--out", str(tmp_path / "out"), "--masks"]
    shard.run(shard.parse(words))
    make_older(open_dataset(str(tmp_path / "out")))
    photo(900).save(root / "late.png")
    capsys.readouterr()
    assert shard.run(shard.parse(words))["num_inputs"] == 6
    assert "has no record of its root's files, so --root was not compared" in capsys.readouterr().err
    with pytest.raises(UsageError, match="seed = 0, not 1"):
        shard.run(shard.parse([*words, "--seed", "1"]))


@pytest.mark.usefixtures("ray_cluster")
def test_a_record_made_again_from_shards_does_not_know_the_root(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 6)
    dataset = build_folder(root, tmp_path / "out")
    (tmp_path / "out" / COMMIT_FILE).unlink()
    assert recover_dataset(dataset.uri, silent).dataset.commit == dataset.commit  # the list of shards knows it
    for path in (tmp_path / "out" / COMMIT_FILE, *(tmp_path / "out").glob("shards-*")):
        path.unlink()
    again = recover_dataset(dataset.uri, silent).dataset
    assert again.manifest_sha256 == dataset.manifest_sha256
    assert again.root is None
    assert build_folder(root, tmp_path / "out").commit == again.commit


@pytest.mark.usefixtures("ray_cluster")
def test_a_stopped_addition_of_another_root_is_not_mixed(tmp_path: Path) -> None:
    dataset = build_folder(photo_folder(tmp_path / "in", 6), tmp_path / "out")
    late = photo_folder(tmp_path / "late", 9)
    plan = Plan(str(late), dataset.uri, shard_recipe(), 0)
    with pytest.raises(RuntimeError, match="stop"):
        add_layer(plan, _stop_at("naming"))
    photo(900).save(late / "more.png")
    with pytest.raises(UsageError, match=OTHER.format(r"9 files.*10 files.*; first more\.png")):
        add_layer(plan, silent)
    (late / "more.png").unlink()
    assert add_layer(plan, silent).commit["ledger"]["num_written"] == 9


@pytest.mark.usefixtures("ray_cluster")
def test_a_finished_demo_refuses_another_root(tmp_path: Path) -> None:
    config = demo.choose_config("folder")
    root, out = photo_folder(tmp_path / "in", 12), tmp_path / "out"
    shard.run(shard.Arguments(config.shards, str(out / "data"), str(root)))
    (out / demo.REPORT_FILE).write_text("{}")
    with pytest.raises(UsageError, match=OTHER.format("12 files.*13 files.*")):
        demo.run_demo(config, str(photo_folder(tmp_path / "other", 13)), out)


def test_a_listing_keeps_the_record_that_is_compared(tmp_path: Path) -> None:
    plan = Plan(str(photo_folder(tmp_path / "in", 5)), str(tmp_path / "out"), shard_recipe(), 0)
    layout = list_source(plan)
    scan_files(plan, layout, 0)
    assert layout.root == make_root_record(plan)
