"""Every source on real photos in their own layout, where there are some: LACUNA_DATA names their folder."""

import os
from collections import Counter
from pathlib import Path

import pytest

from pipelines.data.archive.read import read_photo
from tests.data.trees import absent, list_photos

DATA = Path(os.environ.get("LACUNA_DATA", "/nowhere"))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA names no folder of real photos"),
]


@pytest.mark.parametrize(
    ("source", "folder", "splits", "counts"),
    [
        ("celeba", "celeba", "published", {"train": 4000}),
        ("celeba", "celeba", "first-12000-test", {"train": 4000}),
        ("places2-128", "places2_128", "published", {"train": 2500, "val": 2000}),
        ("paris-streetview", "paris_streetview", "published", {"test": 21}),
        ("ade20k-aim", "photos/ade20k", "ade20k", {"train": 4}),
        ("folder", "bsds500", "published", {"train": 300}),
        ("folder", "celeba_hq", "published", {"train": 58}),
    ],
)
def test_real_photos_are_listed(source: str, folder: str, splits: str, counts: dict[str, int]) -> None:
    photos = list_photos(source, DATA / folder, splits)
    assert {photo.refusal for photo in photos.values()} == {None}
    assert Counter(photo.split for photo in photos.values()) == counts
    for path, photo in list(photos.items())[:20]:
        assert len(read_photo(str(DATA / folder), photo)) == photo.size_bytes == (DATA / folder / path).stat().st_size


def test_what_is_not_there_is_named() -> None:
    assert len(absent("celeba", DATA / "celeba")) == 198_599
    assert len(absent("places2-128", DATA / "places2_128")) == 8000


def test_real_maps_lie_beside_their_photos() -> None:
    for path, photo in list_photos("ade20k-aim", DATA / "photos/ade20k", "ade20k").items():
        (plane,) = photo.planes
        assert plane.path == path.replace(".jpg", "_seg.png")
        assert read_photo(str(DATA / "photos/ade20k"), plane).startswith(b"\x89PNG")
        assert photo.label in ("a/abbey", "z/zoo")


def test_real_labels_of_places2_are_class_paths() -> None:
    photos = list_photos("places2-128", DATA / "places2_128")
    per_class = Counter(photo.label for photo in photos.values() if photo.split == "train")
    assert set(per_class.values()) == {25}
    assert len(per_class) == 100
    assert all(photo.label for photo in photos.values())


def test_real_faces_under_celebas_names_are_split_by_its_partition(tmp_path: Path) -> None:
    for file in (DATA / "celeba_hq").glob("*.jpg"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "list_eval_partition.txt").symlink_to(DATA / "celeba" / "list_eval_partition.txt")
    faces = list_photos("celebahq", tmp_path)
    assert len(faces) == 56
    assert {face.refusal for face in faces.values()} == {None}
    for path, face in faces.items():
        number = int(Path(path).stem)
        assert face.split == ("train" if number <= 162_770 else "val" if number <= 182_637 else "test")


def test_lamas_lists_split_all_faces(tmp_path: Path) -> None:
    for flist in (DATA / "celeba_hq").glob("*.flist"):
        (tmp_path / flist.name).symlink_to(flist)
    for number in range(0, 30_000, 10):
        (tmp_path / f"{number}.jpg").touch()
    counts = Counter(face.split for face in list_photos("celebahq", tmp_path, "lama").values())
    assert set(counts) == {"train", "val"}
    assert sum(counts.values()) == 3000
