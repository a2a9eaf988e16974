"""ADE20K with its segmentation maps, FFHQ, Oxford Buildings and Paris StreetView: splits, planes, what is refused."""

import random
from collections import Counter
from pathlib import Path

import pytest

from infra import storage
from pipelines.data.archive.read import read_photo
from pipelines.data.sources import DATASETS
from pipelines.records import UsageError
from tests.data.trees import ADE, TREES, absent, content, files, list_photos, put, tar_bytes, write_files, zip_bytes


def test_ade20k_has_a_map_beside_each_photo_and_no_photo_for_a_map(tmp_path: Path) -> None:
    photos = list_photos("ade20k-aim", write_files(tmp_path, TREES["ade20k-aim"]))
    planes = {path: [(plane.name, plane.path) for plane in photo.planes] for path, photo in photos.items()}
    abbey, zoo = f"{ADE}/training/a/abbey/ADE_train_00000001", f"{ADE}/validation/z/zoo/ADE_val_00000001"
    assert planes == {
        f"{abbey}.jpg": [("seg", f"{abbey}_seg.png")],
        f"{ADE}/training/b/bakery/shop/ADE_train_00000002.jpg": [],
        f"{zoo}.jpg": [("seg", f"{zoo}_seg.png")],
    }


@pytest.mark.parametrize(("splits", "shop"), [("aim", "rest"), ("ade20k", "train")])
def test_ade20k_is_split_by_the_challenge_or_by_itself(splits: str, shop: str, tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["ade20k-aim"])
    photos = list_photos("ade20k-aim", root, splits)
    assert {(Path(path).name, photo.split, photo.label) for path, photo in photos.items()} == {
        ("ADE_train_00000001.jpg", "train", "a/abbey"),
        ("ADE_train_00000002.jpg", shop, "b/bakery/shop"),
        ("ADE_val_00000001.jpg", "val", "z/zoo"),
    }
    assert absent("ade20k-aim", root, splits) == ([f"{ADE}/training/ADE_train_00000007.jpg"] if splits == "aim" else [])


@pytest.mark.parametrize("order", range(5))
def test_maps_are_found_in_an_archive_in_any_order(order: int, tmp_path: Path) -> None:
    paths = [f"{ADE}/training/a/{scene}/{n}{end}" for scene in "xy" for n in (1, 2) for end in (".jpg", "_seg.png")]
    random.Random(order).shuffle(paths)
    root = str(tmp_path / "all.zip")
    put(root, zip_bytes({path: content(path, 500) for path in paths}))
    photos = list_photos("ade20k-aim", root, "ade20k")
    assert len(photos) == 4
    for path, photo in photos.items():
        (plane,) = photo.planes
        assert read_photo(root, plane) == content(f"{path[:-4]}_seg.png", 500)


def test_a_map_that_cannot_be_read_is_refused_and_its_photo_is_not(tmp_path: Path) -> None:
    data = bytearray(zip_bytes(files(f"{ADE}/training/a/1.jpg", f"{ADE}/training/a/1_seg.png")))
    entry = data.rindex(f"{ADE}/training/a/1_seg.png".encode()) - 46
    data[entry + 8] |= 1
    (photo,) = list_photos("ade20k-aim", put(str(tmp_path / "all.zip"), bytes(data)), "ade20k").values()
    assert (photo.refusal, [plane.refusal for plane in photo.planes]) == (None, ["it is encrypted"])


BESIDE = files("a/1.jpg", "a/1_seg.png", "a/1_edge.png", "a/1/deep.jpg", "a/2_seg.png", "a.b/c", "a.b/c_edge.png")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("source", ["folder", "ade20k-aim"])
def test_maps_are_planes_of_the_photo_beside_them_and_never_photos(source: str, packed: bool, tmp_path: Path) -> None:
    root = str(tmp_path / "all.zip")
    if packed:
        put(root, zip_bytes(dict(reversed(BESIDE.items()))))
    else:
        root = str(write_files(tmp_path, BESIDE))
    photos = list_photos(source, root, "ade20k" if source == "ade20k-aim" else None)
    assert {path: [(plane.name, plane.path) for plane in photo.planes] for path, photo in photos.items()} == {
        "a/1.jpg": [("edge", "a/1_edge.png"), ("seg", "a/1_seg.png")],
        "a/1/deep.jpg": [],
        "a/2_seg.png": [],
        "a.b/c": [("edge", "a.b/c_edge.png")],
    }
    assert {path: photo.refusal for path, photo in photos.items() if photo.refusal} == {
        "a/2_seg.png": "a map without its photo"
    }


def test_ade20k_is_read_from_a_train_folder_or_from_the_letters(tmp_path: Path) -> None:
    letters = files("a/abbey/1.jpg", "a/abbey/1_seg.png")
    for below in ("train/", ""):
        root = write_files(tmp_path / f"root{len(below)}", {below + path: data for path, data in letters.items()})
        (photo,) = list_photos("ade20k-aim", root, "ade20k").values()
        assert (photo.split, photo.label, photo.planes[0].path) == ("train", "a/abbey", f"{below}a/abbey/1_seg.png")


def test_the_challenge_needs_its_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no new_image_names\.txt under .* without it, use --splits ade20k"):
        list_photos("ade20k-aim", write_files(tmp_path, files("a/abbey/1.jpg")))


def ffhq_tar(root: Path, numbers: range) -> Path:
    root.mkdir()
    put(
        str(root / "images1024x1024.tar"),
        tar_bytes({f"images1024x1024/{n // 1000 * 1000:05d}/{n:05d}.png": b"" for n in numbers}),
    )
    return root


def test_ffhq_has_its_last_10000_as_val_and_deepgin_a_thousand_of_them(tmp_path: Path) -> None:
    root = ffhq_tar(tmp_path / "ffhq", range(59_990, 70_000))
    assert Counter(photo.split for photo in list_photos("ffhq", root).values()) == {"train": 10, "val": 10_000}
    drawn = list_photos("ffhq", root, "deepgin")
    assert Counter(photo.split for photo in drawn.values()) == {"train": 10, "val": 1000, "rest": 9000}
    part = list_photos("ffhq", ffhq_tar(tmp_path / "part", range(69_000, 69_400)), "deepgin")
    assert {path: photo.split for path, photo in part.items()} == {path: drawn[path].split for path in part}


def test_ffhq_refuses_strangers_and_names_what_is_not_there(tmp_path: Path) -> None:
    good = "images1024x1024/00000/00005.png"
    strangers = [f"images1024x1024/{name}" for name in ("00005.png", "00000/5.png", "00000/01000.png", "LICENSE.txt")]
    root = write_files(tmp_path, files(good, *strangers, "images1024x1024/70000/70000.png"))
    photos = list_photos("ffhq", root)
    assert [path for path, photo in photos.items() if photo.refusal is None] == [good]
    gone = absent("ffhq", root)
    assert len(gone) == 69_999
    assert (gone[0], gone[-1]) == ("images1024x1024/00000/00000.png", "images1024x1024/69000/69999.png")


@pytest.mark.parametrize("below", ["", "oxbuild_images/"])
def test_oxford_is_all_test_and_deepgin_takes_523(below: str, tmp_path: Path) -> None:
    root = write_files(tmp_path, {f"{below}all_souls_{number:06d}.jpg": b"" for number in range(600)})
    assert {photo.split for photo in list_photos("oxford-buildings", root).values()} == {"test"}
    drawn = list_photos("oxford-buildings", root, "deepgin")
    assert Counter(photo.split for photo in drawn.values()) == {"test": 523, "rest": 77}
    names = sorted(Path(path).name for path, photo in drawn.items() if photo.split == "rest")
    assert names[:2] == ["all_souls_000034.jpg", "all_souls_000040.jpg"]  # by digest of the name, in either place


def test_paris_has_train_and_test_and_no_damaged_copies(tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["paris-streetview"])
    assert {path: photo.split for path, photo in list_photos("paris-streetview", root).items()} == {
        "paris_train_original/48.842502_2.344968_90_-004.JPG": "train",
        "paris_eval/paris_eval_gt/001_im.png": "test",
    }
    storage.remove(str(root / "paris_train_original"))
    assert absent("paris-streetview", root) == ["paris_train_original"]


def test_paris_may_be_evaluation_photos_only(tmp_path: Path) -> None:
    photos = list_photos("paris-streetview", write_files(tmp_path, files("001_im.png", "021_im.png", "photo.png")))
    assert {photo.split for photo in photos.values()} == {"test"}
    assert [path for path, photo in photos.items() if photo.refusal] == ["photo.png"]


def test_a_root_without_the_photos_is_refused_naming_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no images1024x1024 under {tmp_path}: --root must hold"):
        list(DATASETS["ffhq"].list_items(str(tmp_path), None, "memory://never"))
