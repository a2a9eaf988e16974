"""The build's bytes depend on photos and config alone; held-out photos, normalizations and records."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT
from pipelines.manifest import COMMIT_FILE, Dataset
from pipelines.masks.spec import parse_mask_spec
from pipelines.records import UsageError, make_key
from tests.data.building import MANY, build_folder, read_by_webdataset, rows_of, save
from tests.making import SIZE_PX, files_of, photo

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("ray_cluster")]


def test_two_builds_have_the_same_files(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(many, tmp_path / "moved elsewhere")
    again = build_folder(copy, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == files_of(Path(many_dataset.uri))
    assert again.manifest_sha256 == many_dataset.manifest_sha256


ON_ONE_CORE = """
import sys, ray
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from tests.making import shard_recipe
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
build_dataset(Plan(sys.argv[1], sys.argv[2], shard_recipe(holdout=0.25, shard_bytes=4000), 0), lambda *_: None)
"""


def test_a_cluster_of_one_core_makes_the_same_files(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_ONE_CORE, str(many), str(tmp_path / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=PROJECT_ROOT)
    assert files_of(tmp_path / "out") == files_of(Path(many_dataset.uri))


@pytest.mark.parametrize("pick", [0, 13, 27])
def test_taking_one_photo_out_changes_one_shard(many: Path, many_dataset: Dataset, tmp_path: Path, pick: int) -> None:
    copy = shutil.copytree(many, tmp_path / "in")
    taken = sorted(p for p in copy.rglob("*") if p.is_file())[pick]
    taken.unlink()
    fewer = build_folder(copy, tmp_path / "out", **MANY)
    assert fewer.commit["num_shards"] == many_dataset.commit["num_shards"]
    assert len(fewer.shards) >= 8
    before, after = files_of(Path(many_dataset.uri)), files_of(tmp_path / "out")
    gone = {n for n in before if n not in after and n.endswith(".tar")}
    new = {n for n in after if n not in before and n.endswith(".tar")}
    assert (len(gone), len(new)) == (1, 1)
    assert gone.pop()[: -len("012345678901.tar")] == new.pop()[: -len("012345678901.tar")]
    key = make_key(str(taken.relative_to(copy)))
    keys = {s["__key__"] for split in ("train", "val") for s in read_by_webdataset(many_dataset, split)}
    assert {s["__key__"] for split in ("train", "val") for s in read_by_webdataset(fewer, split)} == keys - {key}


def test_a_finished_build_is_not_touched_again(many: Path, many_dataset: Dataset) -> None:
    def state() -> dict[str, tuple[int, int]]:
        paths = [Path(many_dataset.uri), *Path(many_dataset.uri).rglob("*")]
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_ino) for p in paths}

    before = state()
    again = build_folder(many, Path(many_dataset.uri), **MANY)
    assert state() == before
    assert (again.commit, again.shards) == (many_dataset.commit, many_dataset.shards)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encode", "jpeg"),
        ("holdout", 0.3),
        ("min_side_px", 8),
        ("max_pixels", 10_000),
        ("masks", ("brush",)),
        ("masks_per_family", 3),
        ("mask_size_px", 48),
        ("mask_canvas_px", 128),
        ("shard_bytes", 20_000),
        ("max_reject_share", 0.5),
    ],
)
def test_other_settings_at_the_same_place_are_refused(
    many: Path, many_dataset: Dataset, field: str, value: object
) -> None:
    with pytest.raises(UsageError, match=rf"(?s){field} = .*, not .*another --out"):
        build_folder(many, Path(many_dataset.uri), **{**MANY, field: value})


def test_another_seed_at_the_same_place_is_refused(many: Path, many_dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="seed = 0, not 7"):
        build_folder(many, Path(many_dataset.uri), seed=7, **MANY)


def test_another_source_at_the_same_place_is_refused(many: Path, many_dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="source = 'folder', not 'packages'"):
        build_folder(many, Path(many_dataset.uri), **MANY, source="packages")


def test_the_commit_record_holds_no_path_host_or_user(many: Path, many_dataset: Dataset) -> None:
    record = (Path(many_dataset.uri) / COMMIT_FILE).read_text()
    for secret in (str(many), many_dataset.uri, str(Path.home()), socket.gethostname(), "/tmp"):
        assert secret not in record
    assert not any(row["source"].startswith("/") for row in rows_of(many_dataset))


def test_samples_hold_no_absolute_path(many: Path, many_dataset: Dataset) -> None:
    for shard in many_dataset.shards:
        data = (Path(many_dataset.uri) / shard.file).read_bytes()
        assert str(many).encode() not in data
        assert str(many.parent).encode() not in data


def test_every_normalization_is_listed(many_dataset: Dataset) -> None:
    samples = {s["__key__"]: s for split in ("train", "val") for s in read_by_webdataset(many_dataset, split)}
    alpha, bitmap = (json.loads(samples[f"class0/{name}"]["json"]) for name in ("alpha", "bitmap"))
    assert alpha["normalised"] == ["RGBA to RGB", "transparency on white", "encoded PNG"]
    assert bitmap["normalised"] == ["encoded PNG"]
    assert (alpha["source"], bitmap["source"]) == ("class0/alpha.png", "class0/bitmap.bmp")


def test_only_held_out_photos_carry_masks_and_they_redraw(many_dataset: Dataset) -> None:
    held_out = read_by_webdataset(many_dataset, "val")
    assert len(held_out) >= 3
    assert all(json.loads(s["json"])["masks"] == [] for s in read_by_webdataset(many_dataset, "train"))
    for sample in held_out:
        recipes = [parse_mask_spec(line) for line in json.loads(sample["json"])["masks"]]
        assert [r.family for r in recipes] == ["rectangle", "brush", "automaton"]
        for recipe in recipes:
            mask = recipe.draw()
            assert mask.shape == (SIZE_PX, SIZE_PX)
            assert 0 < mask.sum() < mask.size
            assert sample["__key__"] in recipe.seed_path


def test_masks_in_the_tables_are_those_in_the_shards(many_dataset: Dataset) -> None:
    notes = {s["__key__"]: json.loads(s["json"]) for s in read_by_webdataset(many_dataset, "val")}
    rows = {r["key"]: r for r in rows_of(many_dataset) if r["split"] == "val"}
    assert {key: row["masks"] for key, row in rows.items()} == {key: note["masks"] for key, note in notes.items()}


def splits_by_key(dataset: Dataset) -> dict[str, str]:
    """Key -> split of what was written."""
    return {row["key"]: row["split"] for row in rows_of(dataset) if row["outcome"] == "written"}


def test_the_held_out_share_depends_on_the_key_alone(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    for path in many.rglob("*.jpg"):
        save(photo(700 + int(path.stem)), tmp_path / "in" / path.relative_to(many).with_suffix(".png"))
    others, before = splits_by_key(build_folder(tmp_path / "in", tmp_path / "out", **MANY)), splits_by_key(many_dataset)
    assert len(others) == 19
    assert others == {key: before[key] for key in others}


def test_another_seed_holds_out_others(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    other, before = build_folder(many, tmp_path / "out", seed=1, **MANY), splits_by_key(many_dataset)
    assert splits_by_key(other) != before
    assert set(splits_by_key(other)) == set(before)


def test_a_larger_share_holds_out_the_same_and_more(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    more, before = (
        splits_by_key(build_folder(many, tmp_path / "out", **{**MANY, "holdout": 0.5})),
        splits_by_key(many_dataset),
    )
    assert {k for k, split in before.items() if split == "val"} < {k for k, split in more.items() if split == "val"}
