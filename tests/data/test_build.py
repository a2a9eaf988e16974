"""The build on a real Ray cluster: the ledger, the keys, bytes that depend on photos and recipe alone, refusals."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds
from PIL import Image

from infra.settings import PROJECT_ROOT
from pipelines.data.build import build_dataset
from pipelines.data.listing import list_source, scan_files
from pipelines.data.recipe import ShardRecipe
from pipelines.data.tar import read_index
from pipelines.data.verify import verify_dataset
from pipelines.data.workspace import Plan
from pipelines.manifest import COMMIT_FILE, Dataset, open_dataset, read_table, shards_file
from pipelines.masks.recipe import parse_recipe
from pipelines.records import Refused, is_key, make_key, sha256_hex
from tests.making import SIZE_PX, files_of, photo, photo_folder, shard_recipe

pytestmark = pytest.mark.usefixtures("ray_cluster")


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def built(root: Path, out: Path, seed: int = 0, **changes: Any) -> Dataset:
    """The dataset of a folder by the small recipe with some changes."""
    return build_dataset(Plan(str(root), str(out), shard_recipe(**changes), seed), silent)


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    """All rows of all tables."""
    rows = [read_table(dataset.uri, shard).to_pylist() for shard in dataset.shards]
    return [row | {"split": shard.split} for shard, table in zip(dataset.shards, rows, strict=True) for row in table]


def rows_by_source(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The row of every input by its path, which is there once."""
    rows = rows_of(dataset)
    assert len({row["source"] for row in rows}) == len(rows)
    return {row["source"]: row for row in rows}


def read_by_webdataset(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """All samples of a split as plain webdataset gives them."""
    urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards if shard.split == split]
    return list(wds.WebDataset(urls, shardshuffle=False))


def save(picture: Image.Image, path: Path) -> None:
    """Saves a photo in a folder that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


MANY: dict[str, Any] = {"holdout": 0.25, "shard_bytes": 4000}
ODD_NAMES = (
    "dots.in.the.name.jpg",
    "two words.png",
    "ünïcödé/日本.jpg",
    "100%#?*[x]&=.png",
    ".hidden.jpg",
    "line\nbreak.png",
)
TOO_LONG = "l" * 210 + ".jpg"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of trouble: 20 photos, odd names, repeats, files that are none, and colliding keys."""
    root = photo_folder(tmp_path_factory.mktemp("odd"), 20)
    for number, name in enumerate((*ODD_NAMES, TOO_LONG)):
        save(photo(100 + number), root / name)
    shutil.copy(root / "class0/0000.jpg", root / "class1/zz-again.jpg")
    shutil.copy(root / "class0/0000.jpg", root / "zz-and-again")
    save(photo(200), root / "pair/a.jpg")
    save(photo(201), root / "pair/a.png")
    (root / "notes.txt").write_text("no photo")
    (root / "empty.jpg").write_bytes(b"")
    (root / "cut.jpg").write_bytes((root / "class0/0002.jpg").read_bytes()[:300])
    (root / "away.jpg").symlink_to(root / "nowhere.jpg")
    return root


@pytest.fixture(scope="module")
def odd_dataset(odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset of the odd folder, nothing held out, so that both of a colliding pair lie in one split."""
    return built(odd, tmp_path_factory.mktemp("odd-out") / "data", holdout=0.0, shard_bytes=4000)


def test_the_ledger_balances(odd: Path, odd_dataset: Dataset) -> None:
    inputs = [p for p in odd.rglob("*") if p.is_file() or p.is_symlink()]
    assert odd_dataset.commit["ledger"] == {
        "num_inputs": len(inputs),
        "num_written": 20 + len(ODD_NAMES) + 1,
        "num_duplicates": 2,
        "num_rejected": 6,
        "num_removed": 0,
    }


def test_every_input_has_one_row_that_tells_its_fate(odd: Path, odd_dataset: Dataset) -> None:
    rows = rows_by_source(odd_dataset)
    assert set(rows) == {str(p.relative_to(odd)) for p in odd.rglob("*") if p.is_file() or p.is_symlink()}
    outcomes = Counter(row["outcome"] for row in rows.values())
    assert outcomes == {"written": 27, "duplicate": 2, "rejected": 6}
    for row in rows.values():
        assert (row["reason"] is None) == (row["outcome"] == "written")
        assert bool(row["members"]) == (row["outcome"] == "written")


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        ("notes.txt", "rejected", "not an image"),
        ("empty.jpg", "rejected", "empty file"),
        ("cut.jpg", "rejected", "cut or damaged"),
        ("away.jpg", "rejected", "cannot be read"),
        (TOO_LONG, "rejected", "key longer than 200 bytes"),
        ("pair/a.png", "rejected", "key collision: pair/a"),
        ("class1/zz-again.jpg", "duplicate", "same bytes as class0/0000"),
        ("zz-and-again", "duplicate", "same bytes as class0/0000"),
    ],
)
def test_what_is_not_written_says_why(odd_dataset: Dataset, name: str, outcome: str, reason: str) -> None:
    row = rows_by_source(odd_dataset)[name]
    assert row["outcome"] == outcome
    assert reason in row["reason"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_become_keys_and_are_written(odd: Path, odd_dataset: Dataset, name: str) -> None:
    row = rows_by_source(odd_dataset)[name]
    assert (row["outcome"], row["key"]) == ("written", make_key(name))
    assert is_key(row["key"])
    assert row["source_sha256"] == sha256_hex((odd / name).read_bytes())


def test_plain_webdataset_reads_what_the_manifest_counts(odd: Path, odd_dataset: Dataset) -> None:
    samples = read_by_webdataset(odd_dataset, "train")
    assert len(samples) == odd_dataset.commit["ledger"]["num_written"] == sum(s.num_samples for s in odd_dataset.shards)
    written = {row["key"]: row for row in rows_of(odd_dataset) if row["outcome"] == "written"}
    assert {s["__key__"] for s in samples} == set(written)
    for sample in samples:
        note = json.loads(sample["json"])
        picture = sample.get("jpg") or sample.get("png")
        assert picture == (odd / note["source"]).read_bytes()
        assert (note["key"], note["normalised"]) == (sample["__key__"], [])
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (note["width_px"], note["height_px"]) == (40, 48)


def test_labels_are_the_first_folder(odd_dataset: Dataset) -> None:
    rows = rows_by_source(odd_dataset)
    assert {rows[n]["label"] for n in ("class0/0000.jpg", "class0/0004.jpg")} == {"class0"}
    assert rows["two words.png"]["label"] is None


def test_each_shard_proves_itself_alone(odd_dataset: Dataset) -> None:
    assert len(odd_dataset.shards) >= 4
    for shard in odd_dataset.shards:
        data = (Path(odd_dataset.uri) / shard.file).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        assert names[-1] == "__index__"
        index = read_index(data)
        assert [member.name for member in index] == names[:-1]
        assert len(index) == 2 * shard.num_samples
        for member in index:
            assert zlib.crc32(data[member.offset : member.offset + member.size]) == member.crc32


def test_tables_know_the_members_and_digests_of_the_shards(odd_dataset: Dataset) -> None:
    for shard in odd_dataset.shards:
        data = (Path(odd_dataset.uri) / shard.file).read_bytes()
        assert (len(data), sha256_hex(data)) == (shard.size_bytes, shard.sha256)
        assert shard.sha256[:12] in shard.file
        rows = [r for r in read_table(odd_dataset.uri, shard).to_pylist() if r["outcome"] == "written"]
        members = [m for row in rows for m in row["members"]]
        assert [(m["name"], m["offset"], m["size"], m["crc32"]) for m in members] == [
            (m.name, m.offset, m.size, m.crc32) for m in read_index(data)
        ]


def test_rows_and_records_count_the_same(odd_dataset: Dataset) -> None:
    for shard in odd_dataset.shards:
        outcomes = Counter(r["outcome"] for r in read_table(odd_dataset.uri, shard).to_pylist())
        assert (outcomes["written"], outcomes["duplicate"], outcomes["rejected"]) == (
            shard.num_samples,
            shard.num_duplicates,
            shard.num_rejected,
        )


def test_a_built_dataset_leaves_no_workspace(odd_dataset: Dataset) -> None:
    rows = shards_file(odd_dataset.commit["shards_sha256"])
    assert {p.name for p in Path(odd_dataset.uri).iterdir()} - {".lock"} == {COMMIT_FILE, rows, "tables", "train"}


def test_keys_are_unique_in_the_dataset_over_all_splits(tmp_path: Path) -> None:
    for number in range(24):
        save(photo(number), tmp_path / "in" / f"{number}.jpg")
        save(photo(500 + number), tmp_path / "in" / f"{number}.png")
    dataset = built(tmp_path / "in", tmp_path / "out", holdout=0.5, max_reject_share=0.6)
    keys = Counter(row["key"] for row in rows_of(dataset) if row["outcome"] == "written")
    assert [key for key, count in keys.items() if count > 1] == []


def test_of_equal_photos_the_smallest_key_is_kept(tmp_path: Path) -> None:
    for name in ("b.jpg", "a b.jpg", "a-b.jpg", "z/a.jpg"):
        save(photo(1), tmp_path / "in" / name)
    rows = rows_by_source(built(tmp_path / "in", tmp_path / "out", holdout=0.0))
    assert [name for name, row in rows.items() if row["outcome"] == "written"] == ["a-b.jpg"]
    assert {row["reason"] for row in rows.values()} == {None, "same bytes as a-b"}


def test_the_first_of_a_duplicate_is_in_the_dataset(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/a.jpg")
    save(photo(2), tmp_path / "in/a.png")
    shutil.copy(tmp_path / "in/a.png", tmp_path / "in/b.png")
    dataset = built(tmp_path / "in", tmp_path / "out", holdout=0.0)
    rows = rows_of(dataset)
    written = {row["source_sha256"] for row in rows if row["outcome"] == "written"}
    assert {row["source"] for row in rows if row["outcome"] == "duplicate"} <= {
        row["source"] for row in rows if row["source_sha256"] in written
    }


@pytest.mark.parametrize("name", ["a::b.jpg", "memory::a.jpg", "x\udcff.jpg"])
def test_names_that_mean_something_to_libraries_harm_nobody(tmp_path: Path, name: str) -> None:
    root = tmp_path / "in"
    save(photo(1), root / "a.jpg")
    shutil.copy(root / "a.jpg", root / "a")
    save(photo(2), root / "other.jpg")
    (root / name).write_bytes((root / "other.jpg").read_bytes())
    (root / "other.jpg").unlink()
    dataset = built(root, tmp_path / "out", holdout=0.0)
    assert dataset.commit["ledger"]["num_inputs"] == 3
    for row in rows_of(dataset):
        if row["outcome"] != "rejected":
            assert row["source_sha256"] == sha256_hex((root / row["source"]).read_bytes())


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 photos that differ, two of which are normalised."""
    root = photo_folder(tmp_path_factory.mktemp("many"), 38)
    photo(900).convert("RGBA").save(root / "class0" / "alpha.png")
    photo(901).save(root / "class0" / "bitmap.bmp")
    return root


@pytest.fixture(scope="module")
def many_dataset(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset of these; tests must not change it."""
    return built(many, tmp_path_factory.mktemp("many-out") / "data", **MANY)


def test_two_builds_have_the_same_files(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(many, tmp_path / "moved elsewhere")
    again = built(copy, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == files_of(Path(many_dataset.uri))
    assert again.manifest_sha256 == many_dataset.manifest_sha256


ON_ONE_CORE = """
import sys, ray
from pipelines.data.build import build_dataset
from pipelines.data.workspace import Plan
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
    fewer = built(copy, tmp_path / "out", **MANY)
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
    again = built(many, Path(many_dataset.uri), **MANY)
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
    with pytest.raises(Refused, match=rf"(?s){field} = .*, not .*another --out"):
        built(many, Path(many_dataset.uri), **{**MANY, field: value})


def test_another_seed_at_the_same_place_is_refused(many: Path, many_dataset: Dataset) -> None:
    with pytest.raises(Refused, match="seed = 0, not 7"):
        built(many, Path(many_dataset.uri), seed=7, **MANY)


def test_another_source_at_the_same_place_is_refused(many: Path, many_dataset: Dataset) -> None:
    with pytest.raises(Refused, match="source = 'folder', not 'packages'"):
        built(many, Path(many_dataset.uri), **MANY, source="packages")


def test_the_commit_record_tells_no_path_host_or_user(many: Path, many_dataset: Dataset) -> None:
    record = (Path(many_dataset.uri) / COMMIT_FILE).read_text()
    for secret in (str(many), many_dataset.uri, str(Path.home()), socket.gethostname(), "/tmp"):
        assert secret not in record
    assert not any(row["source"].startswith("/") for row in rows_of(many_dataset))


def test_samples_tell_no_absolute_path(many: Path, many_dataset: Dataset) -> None:
    for shard in many_dataset.shards:
        data = (Path(many_dataset.uri) / shard.file).read_bytes()
        assert str(many).encode() not in data
        assert str(many.parent).encode() not in data


def test_what_was_normalised_is_told(many_dataset: Dataset) -> None:
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
        recipes = [parse_recipe(line) for line in json.loads(sample["json"])["masks"]]
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
    others, before = splits_by_key(built(tmp_path / "in", tmp_path / "out", **MANY)), splits_by_key(many_dataset)
    assert len(others) == 19
    assert others == {key: before[key] for key in others}


def test_another_seed_holds_out_others(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    other, before = built(many, tmp_path / "out", seed=1, **MANY), splits_by_key(many_dataset)
    assert splits_by_key(other) != before
    assert set(splits_by_key(other)) == set(before)


def test_a_larger_share_holds_out_the_same_and_more(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    more, before = splits_by_key(built(many, tmp_path / "out", **{**MANY, "holdout": 0.5})), splits_by_key(many_dataset)
    assert {k for k, split in before.items() if split == "val"} < {k for k, split in more.items() if split == "val"}


def mostly_text(root: Path, photos: int, texts: int) -> Path:
    """A folder of some photos and some files that are none."""
    photo_folder(root, photos).mkdir(exist_ok=True)
    for number in range(texts):
        (root / f"{number}.txt").write_text(f"text {number}")
    return root


def test_ten_rejected_files_are_borne_and_eleven_stop_the_build(tmp_path: Path) -> None:
    dataset = built(mostly_text(tmp_path / "ten", 20, 10), tmp_path / "out10")
    assert dataset.commit["ledger"]["num_rejected"] == 10
    with pytest.raises(Refused, match=r"11 of 31 files .* nothing was committed. Most often: not an image"):
        built(mostly_text(tmp_path / "eleven", 20, 11), tmp_path / "out11")
    assert not (tmp_path / "out11" / COMMIT_FILE).exists()
    with pytest.raises(Refused, match="no dataset at"):
        open_dataset(str(tmp_path / "out11"))


def test_a_stopped_build_still_says_which_files_it_rejected(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with pytest.raises(Refused, match="were rejected"):
        built(mostly_text(tmp_path / "in", 2, 11), tmp_path / "out")
    rows = [row for path in (tmp_path / "out/tables").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {r["source"] for r in rows if r["outcome"] == "rejected"} == {f"{n}.txt" for n in range(11)}


def test_an_unfinished_build_is_not_mixed_with_another(many: Path, tmp_path: Path) -> None:
    root = shutil.copytree(many, tmp_path / "in")
    plan = Plan(str(root), str(tmp_path / "out"), shard_recipe(**MANY), 0)
    scan_files(plan, list_source(plan), 0)
    (root / "class0/0002.jpg").unlink()
    with pytest.raises(OSError, match="0002"):
        build_dataset(plan, silent)
    with pytest.raises(Refused, match=r"root = .*in', not .*another --out"):
        built(many, tmp_path / "out", **MANY)
    with pytest.raises(Refused, match=r"seed = 0, not 1"):
        built(root, tmp_path / "out", seed=1, **MANY)
    shutil.copy(many / "class0/0002.jpg", root / "class0/0002.jpg")
    assert build_dataset(plan, silent).commit["ledger"]["num_written"] == 40


def test_a_folder_without_one_photo_is_not_committed(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"3 of 3 files .* were rejected, 0 written"):
        built(mostly_text(tmp_path / "in", 0, 3), tmp_path / "out")
    assert not (tmp_path / "out" / COMMIT_FILE).exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in" / "nothing").mkdir(parents=True)
    with pytest.raises(Refused, match=f"no files under {tmp_path}/in: --root must be"):
        built(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no folder or archive at .*/none"),
        ({"source": "imagenet"}, "unknown source 'imagenet': known are .*celeba, .*folder, .*packages"),
        ({"masks": ("rectangle", "heart")}, "unknown mask family 'heart': known are rectangle"),
        ({"holdout": 1.0}, r"holdout is 1\.0"),
        ({"holdout": -0.1}, r"holdout is -0\.1"),
        ({"holdout": float("nan")}, "holdout is nan"),
        ({"shard_bytes": 0}, "shard_bytes"),
        ({"mask_size_px": 0}, "mask_size_px"),
        ({"mask_canvas_px": -1}, "mask_canvas_px"),
        ({"masks_per_family": -1}, "masks_per_family"),
        ({"resize": "short-side", "size_px": 0}, "size_px is 0"),
        ({"encode": "gif"}, "unknown encode 'gif': known are png, jpeg"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    root = tmp_path / "none" if not changes else photo_folder(tmp_path / "in", 2)
    with pytest.raises(Refused, match=message):
        build_dataset(Plan(str(root), str(tmp_path / "out"), ShardRecipe(**{"source": "folder", **changes}), 0), silent)
    assert not (tmp_path / "out").exists()


def test_what_a_killed_process_left_behind_is_cleared_away(many: Path, many_dataset: Dataset, tmp_path: Path) -> None:
    for folder in ("train", "tables", ".build/records", ".build/scratch/.aside-killed"):
        (tmp_path / "out" / folder).mkdir(parents=True)
        (tmp_path / "out" / folder / ".aside-0123456789ab").write_bytes(b"half of a file")
    built(many, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == files_of(Path(many_dataset.uri))


def test_a_dataset_inside_its_own_source_is_refused_or_no_input(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 6)
    try:
        first = built(root, root / "data")
    except Refused:
        return
    again = built(root, root / "data2")
    assert [d.commit["ledger"]["num_inputs"] for d in (first, again)] == [6, 6]


def test_files_of_others_in_the_folder_stay(many: Path, tmp_path: Path) -> None:
    neighbour = built(photo_folder(tmp_path / "few", 6), tmp_path / "out" / "neighbour")
    (tmp_path / "out/archive.tar").write_bytes(b"somebody's")
    (tmp_path / "out/figures.parquet").write_bytes(b"somebody's")
    built(many, tmp_path / "out", **MANY)
    assert (tmp_path / "out/archive.tar").exists()
    assert (tmp_path / "out/figures.parquet").exists()
    assert verify_dataset(neighbour.uri)[1] == []


def test_relative_paths_are_those_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_folder(tmp_path / "relative-in", 6)
    monkeypatch.chdir(tmp_path)
    dataset = built(Path("relative-in"), Path("relative-out"))
    assert dataset.commit["ledger"]["num_written"] == 6
    assert (tmp_path / "relative-out" / COMMIT_FILE).exists()


def test_a_workspace_that_outlived_its_commit_is_cleared_away(many: Path, tmp_path: Path) -> None:
    built(many, tmp_path / "out", **MANY)
    before = files_of(tmp_path / "out")
    (tmp_path / "out/.build/records").mkdir(parents=True)
    (tmp_path / "out/.build/records/train-000000.json").write_text("{}")
    built(many, tmp_path / "out", **MANY)
    assert files_of(tmp_path / "out") == before
    assert not (tmp_path / "out/.build").exists()


@pytest.mark.parametrize("change", [lambda path: photo(999).save(path), lambda path: path.unlink()])
def test_a_photo_that_changes_during_a_build_stops_it_until_it_is_back(
    many: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = shutil.copytree(many, tmp_path / "in")
    plan = Plan(str(root), str(tmp_path / "out"), shard_recipe(**MANY), 0)
    layout = list_source(plan)
    scan_files(plan, layout, 0)
    change(root / "class0/0002.jpg")
    with pytest.raises(OSError, match=r"class0/0002\.jpg"):
        build_dataset(plan, silent)
    assert not (tmp_path / "out" / COMMIT_FILE).exists()
    shutil.copy(many / "class0/0002.jpg", root / "class0/0002.jpg")
    assert build_dataset(plan, silent).commit["ledger"]["num_written"] == 40


def test_celeba_keeps_its_splits_and_rejects_what_is_not_listed(tmp_path: Path) -> None:
    for number in range(1, 13):
        save(photo(number), tmp_path / "in" / "img_align_celeba" / f"{number:06d}.jpg")
    lines = [f"{number:06d}.jpg {number % 3}" for number in range(1, 12)]
    (tmp_path / "in" / "list_eval_partition.txt").write_text("\n".join([*lines, "202599.jpg 0", ""]))
    dataset = built(tmp_path / "in", tmp_path / "out", source="celeba", holdout=0.0)
    rows = rows_by_source(dataset)
    unlisted = rows.pop("img_align_celeba/000012.jpg")
    assert unlisted["reason"] == "list_eval_partition.txt does not name it"
    assert {row["split"] for row in rows.values()} == {"train", "val", "test"}
    for source, row in rows.items():
        assert row["split"] == ("train", "val", "test")[int(Path(source).stem) % 3]
        assert bool(row["masks"]) == (row["split"] != "train")
