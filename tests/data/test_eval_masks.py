"""The masks that held-out photos carry: by key alone, in the bins that were asked for, of files too."""

import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.checked_files import seal
from pipelines.data.build.eval_masks import check_masks, hash_mask_files, make_eval_masks
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.evaluation.pairs import read_chunk
from pipelines.manifest import COMMIT_FILE, Dataset, read_table
from pipelines.masks.bins import find_bin
from pipelines.masks.spec import parse_mask_spec
from pipelines.records import UsageError
from tests.data.building import build_folder
from tests.making import SIZE_PX, shard_recipe


def plan(seed: int = 0, mask_files: str | None = None, **changes: Any) -> Plan:
    """A plan of which only the masks matter."""
    return Plan("in", "out", shard_recipe(**changes), seed, mask_files)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of mask files as the NVIDIA test set has them: white discs of growing size."""
    folder = tmp_path_factory.mktemp("masks")
    for number in range(12):
        picture = np.zeros((64, 64), np.uint8)
        cv2.circle(picture, (32, 32), 4 + 2 * number, 255, -1)
        cv2.imwrite(str(folder / f"{number:05d}.png"), picture)
    return str(folder)


def levels(data: bytes) -> NDArray[np.uint8]:
    """The gray levels of a stored mask."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


@given(st.integers(0, 2**31), st.text("abc/_", min_size=1, max_size=20))
@settings(max_examples=20)
def test_masks_depend_on_seed_and_key_alone_and_redraw(seed: int, key: str) -> None:
    own = plan(seed, masks_per_family=2)
    lines, stored = make_eval_masks(own, key)
    assert (lines, stored) == (make_eval_masks(own, key)[0], {})
    assert len(set(lines)) == len(lines) == 2 * len(own.config.masks)
    others = {*make_eval_masks(replace(own, seed=seed + 1), key)[0], *make_eval_masks(own, key + "x")[0]}
    assert not set(lines) & others
    for line in lines[:2]:
        mask = parse_mask_spec(line).draw()
        assert mask.shape == (SIZE_PX, SIZE_PX)
        assert set(mask.flatten().tolist()) == {0, 1}


def test_masks_lie_in_the_bins_that_were_asked_for() -> None:
    wanted = ("0.2-0.3", "0.3-0.4")
    own = plan(masks=("rectangle", "freeform"), mask_bins=wanted, masks_per_family=2)
    for key in ("a", "b/c"):
        bins = [find_bin(parse_mask_spec(line).draw()) for line in make_eval_masks(own, key)[0]]
        assert bins == [*wanted, *wanted] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"masks": ("blob",)}, "unknown mask family 'blob'"),
        ({"mask_bins": ("0.1-0.15",)}, "unknown hole-ratio bin"),
        ({"masks": ("brush-square",), "mask_bins": ("0.01-0.1",)}, "at least 1% must. Use another family"),
        ({"masks": ("irregular",)}, "give their folder with --mask-files"),
        ({"mask_splits": ("val", "tests")}, "unknown split 'tests' in mask_splits: use one of train, val, test, rest"),
    ],
)
def test_masks_that_cannot_be_are_refused_before_any_work(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_masks(shard_recipe(**changes), None)


def test_stored_masks_are_those_of_the_recipes() -> None:
    lines, stored = make_eval_masks(plan(mask_pixels=True), "a")
    assert list(stored) == ["mask.png", "mask2.png", "mask3.png"]
    for line, data in zip(lines, stored.values(), strict=True):
        assert np.array_equal(levels(data), parse_mask_spec(line).draw() * 255)
        assert data[24] == 1  # bits a pixel


def test_masks_of_files_are_stored_and_name_their_file(files: str) -> None:
    changes: dict[str, Any] = {"masks": ("irregular",), "mask_bins": ("0.1-0.2", "0.3-0.4")}
    own = plan(0, files, mask_files_sha256=hash_mask_files(files), **changes)
    check_masks(own.config, files)
    lines, stored = make_eval_masks(own, "a")
    assert len(lines) == len(stored) == 2
    for line, data, wanted in zip(lines, stored.values(), ("0.1-0.2", "0.3-0.4"), strict=True):
        recipe = parse_mask_spec(line)
        mask = recipe.draw(lambda name: (Path(files) / name).read_bytes())
        assert find_bin(mask) == wanted
        assert np.array_equal(levels(data), mask * 255)


def small(value: int) -> NDArray[np.uint8]:
    """A picture of one color."""
    return np.full((64, 64), value, np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "changes", "words"),
    [
        ("README.txt", b"read me", {}, r"README\.txt is not a picture"),
        ("00000.png", small(0), {}, r"00000\.png is empty: no pixel is white"),
        ("00000.png", 255 - cv2.circle(small(0), (32, 32), 9, 255, -1), {}, r"00000\.png looks inverted: 9\d% of it"),
        ("00000.png", cv2.circle(small(0), (32, 32), 9, 255, -1), {"mask_canvas_px": 256}, r"--mask-canvas-px 64"),
    ],
)
def test_odd_mask_files_are_named_before_any_work(
    name: str, content: bytes | NDArray[np.uint8], changes: dict[str, Any], words: str, files: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(files, tmp_path / "masks")
    data = content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes()
    (folder / name).write_bytes(data)
    with pytest.raises(UsageError, match=words):
        check_masks(
            shard_recipe(masks=("irregular",), mask_files_sha256=hash_mask_files(str(folder)), **changes), str(folder)
        )


def test_an_odd_mask_file_is_named_and_not_passed_over(files: str, tmp_path: Path) -> None:
    folder = shutil.copytree(files, tmp_path / "masks")
    for number in range(12):
        (folder / f"{number:05d}.png").write_bytes(cv2.imencode(".png", small(90))[1].tobytes())
    with pytest.raises(UsageError, match=r"000\d\d\.png is 100% gray"):
        make_eval_masks(plan(0, str(folder), masks=("irregular",)), "a")


def test_another_folder_of_mask_files_is_refused(files: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no mask files at"):
        hash_mask_files(str(tmp_path))
    with pytest.raises(UsageError, match="has other names or sizes than the mask files"):
        check_masks(shard_recipe(masks=("irregular",), mask_files_sha256="0" * 64), files)


@pytest.mark.usefixtures("ray_cluster")
def test_models_are_scored_on_masks_of_files_without_the_files(files: str, photos: Path, tmp_path: Path) -> None:
    recipe = shard_recipe(masks=("irregular", "rectangle"), mask_files_sha256=hash_mask_files(files))
    dataset = build_dataset(Plan(str(photos), str(tmp_path / "data"), recipe, 0, files), lambda *_: None)
    pairs = read_chunk(dataset.uri, "val", "centre-square", 0)
    assert {line.partition(" ")[0] for line in pairs.specs} == {"irregular", "rectangle"}
    for line, mask in zip(pairs.specs, pairs.masks, strict=True):
        assert np.array_equal(mask, parse_mask_spec(line).draw(lambda name: (Path(files) / name).read_bytes()))


def masks_by_split(dataset: Dataset) -> dict[str, set[int]]:
    """How many recipes the photos of each split carry."""
    found: dict[str, set[int]] = defaultdict(set)
    for shard in dataset.shards:
        for row in read_table(dataset.uri, shard).to_pylist():
            found[shard.split].add(len(row["masks"]))
    return dict(found)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("val", "test"), {"train": {0}, "val": {3}}),
        (("train", "val"), {"train": {3}, "val": {3}}),
        (("train",), {"train": {3}, "val": {0}}),
    ],
)
def test_photos_of_the_named_splits_carry_masks(
    splits: tuple[str, ...], expected: dict[str, set[int]], photos: Path, tmp_path: Path
) -> None:
    assert masks_by_split(build_folder(photos, tmp_path / "data", mask_splits=splits)) == expected


@pytest.mark.usefixtures("ray_cluster")
def test_a_dataset_that_is_older_than_a_field_of_its_recipe_has_the_default(photos: Path, tmp_path: Path) -> None:
    dataset = build_folder(photos, tmp_path / "data")
    commit = dataset.commit | {"recipe": {n: v for n, v in dataset.commit["recipe"].items() if n != "mask_splits"}}
    (tmp_path / "data" / COMMIT_FILE).write_bytes(seal(commit))
    assert build_folder(photos, tmp_path / "data").commit == commit
    with pytest.raises(UsageError, match=r"mask_splits = \['val', 'test'\], not \['val'\]"):
        build_folder(photos, tmp_path / "data", mask_splits=("val",))
