"""Places in its layouts: labels, splits and both meanings of "the first 12,000 of val"."""

from collections import Counter
from pathlib import Path

import pytest

from infra import storage
from pipelines.data.sources import DATASETS
from pipelines.records import UsageError
from tests.data.trees import PLACES_CLASSES, TREES, absent, files, list_photos, put, tar_bytes, write_files

pytestmark = pytest.mark.thorough

NUM_VAL = 36_500
CLASSES = [f"{'abc'[number // 150]}/{'abc'[number // 150]}{number:03d}" for number in range(365)]


def class_of(number: int) -> int:
    """The class of a val photo: mixed over the numbers, a hundred photos each."""
    return number * 7 % 365


@pytest.fixture(scope="module")
def flat_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole of val in small, with classes mixed over the numbers as published."""
    names = {number: f"Places365_val_{number:08d}.jpg" for number in range(1, NUM_VAL + 1)}
    root = write_files(
        tmp_path_factory.mktemp("flat"),
        {
            "categories_places365.txt": "\n".join(f"/{name} {i}" for i, name in enumerate(CLASSES)).encode(),
            "places365_val.txt": "\n".join(f"{name} {class_of(n)}" for n, name in names.items()).encode(),
        },
    )
    put(str(root / "val_256.tar"), tar_bytes({f"val_256/{name}": b"" for name in names.values()}))
    return root


@pytest.fixture(scope="module")
def easy_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos in the easy format."""
    root = write_files(
        tmp_path_factory.mktemp("easy"),
        {"categories_places365.txt": "\n".join(f"/{name} {i}" for i, name in enumerate(CLASSES)).encode()},
    )
    folders = ((CLASSES[class_of(n)][2:], n) for n in range(1, NUM_VAL + 1))
    photos = {f"places365_standard/val/{name}/Places365_val_{n:08d}.jpg": b"" for name, n in folders}
    put(str(root / "places365standard_easyformat.tar"), tar_bytes(photos))
    return root


@pytest.mark.parametrize(
    ("splits", "num_val", "is_chosen"),
    [
        ("published", NUM_VAL, lambda number: True),
        ("first-12000-flat", 12_000, lambda number: number <= 12_000),
        ("first-12000-easy", 12_000, lambda number: class_of(number) < 120),
        ("mhtma", 2000, None),
    ],
)
def test_val_is_chosen_alike_in_both_formats(
    splits: str, num_val: int, is_chosen: object, flat_val: Path, easy_val: Path
) -> None:
    chosen = []
    for source, root in (("places365-small", flat_val), ("places365-easy", easy_val)):
        photos = list_photos(source, root, splits)
        assert Counter(photo.split for photo in photos.values())["val"] == num_val
        assert {photo.split for photo in photos.values()} <= {"val", "rest"}
        chosen.append({int(path[-12:-4]) for path, photo in photos.items() if photo.split == "val"})
    assert chosen[0] == chosen[1]
    if callable(is_chosen):
        assert chosen[0] == {number for number in range(1, NUM_VAL + 1) if is_chosen(number)}


def test_a_part_of_val_has_the_splits_of_the_whole(flat_val: Path, tmp_path: Path) -> None:
    whole = list_photos("places365-small", flat_val, "mhtma")
    some = [f"val_256/Places365_val_{number:08d}.jpg" for number in range(1, 400)]
    root = write_files(tmp_path, files(*some))
    for name in ("categories_places365.txt", "places365_val.txt"):
        (root / name).write_bytes((flat_val / name).read_bytes())
    for path, photo in list_photos("places365-small", root, "mhtma").items():
        assert (photo.split, photo.label) == (whole[path].split, whole[path].label)


@pytest.mark.parametrize("size", ["256", "large"])
def test_flat_layouts_have_class_paths_as_labels(size: str, tmp_path: Path) -> None:
    source = "places365-small" if size == "256" else "places365-large"
    root = write_files(tmp_path, TREES[source])
    photos = list_photos(source, root)
    assert {path: (photo.split, photo.label, photo.refusal) for path, photo in photos.items()} == {
        f"data_{size}/a/airfield/00000001.jpg": ("train", "a/airfield", None),
        f"data_{size}/b/bow_window/indoor/00000002.jpg": ("train", "b/bow_window/indoor", None),
        f"val_{size}/Places365_val_00000001.jpg": ("val", "z/zen_garden", None),
        f"val_{size}/stranger.jpg": ("val", None, "places365_val.txt does not name it"),
        f"test_{size}/Places365_test_00000009.jpg": ("test", None, None),
    }
    assert absent(source, root) == [f"data_{size}/z/3.jpg", f"val_{size}/Places365_val_00000002.jpg"]


def test_a_part_that_is_not_there_is_named_as_a_whole(tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["places365-small"])
    for folder in ("data_256", "test_256"):
        storage.remove(str(root / folder))
    assert absent("places365-small", root) == ["data_256", "test_256", "val_256/Places365_val_00000002.jpg"]
    assert {photo.split for photo in list_photos("places365-small", root).values()} == {"val"}


def test_places2_has_labels_from_folders_in_train_and_from_the_list_in_val(tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["places2-128"])
    assert {path: (photo.split, photo.label) for path, photo in list_photos("places2-128", root).items()} == {
        "train/a/airfield/00000001.jpg": ("train", "a/airfield"),
        "train/b/bow_window/indoor/2.jpg": ("train", "b/bow_window/indoor"),
        "val/00000002.jpg": ("val", "b/bow_window/indoor"),
    }
    assert absent("places2-128", root) == ["val/00000003.jpg"]


def test_the_easy_format_has_folders_as_labels_and_other_files_are_no_photos(tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["places365-easy"])
    assert {path: (photo.split, photo.label) for path, photo in list_photos("places365-easy", root).items()} == {
        "places365_standard/train/airfield/00000001.jpg": ("train", "airfield"),
        "places365_standard/val/bow_window-indoor/Places365_val_00000435.jpg": ("val", "bow_window-indoor"),
    }
    storage.remove(str(root / "places365_standard" / "val"))
    assert absent("places365-easy", root) == ["places365_standard/val"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("categories_places365.txt", None, "no categories_places365.txt under .*filelist_places365-standard.tar"),
        ("categories_places365.txt", b"/a/airfield", "is no list of classes: expected lines like `/a/airfield 0`"),
        ("places365_val.txt", None, "no places365_val.txt under"),
        ("places365_val.txt", b"Places365_val_00000001.jpg", "is no list of val photos: expected lines"),
        ("places365_val.txt", b"Places365_val_00000001.jpg 9", "is no list of val photos: expected lines"),
        ("places365_train_standard.txt", PLACES_CLASSES + b" 3", "is no list of train photos: expected lines"),
    ],
)
def test_lists_that_are_missing_or_none_are_refused(name: str, data: bytes | None, words: str, tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["places365-small"] | ({name: data} if data is not None else {}))
    if data is None:
        storage.remove(str(root / name))
    with pytest.raises(UsageError, match=words):
        list_photos("places365-small", root)


def test_roots_without_any_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"none of data_256, val_256, test_256 under {tmp_path}: --root must hold one"):
        list_photos("places365-small", tmp_path)
    with pytest.raises(UsageError, match=r"no places365_standard under .*places365standard_easyformat\.tar"):
        list_photos("places365-easy", tmp_path)


@pytest.mark.parametrize("source", sorted(DATASETS))
def test_unknown_splits_are_refused_naming_the_known(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"unknown splits 'random'.* {DATASETS[source].splits[0]}"):
        list_photos(source, tmp_path, "random")
