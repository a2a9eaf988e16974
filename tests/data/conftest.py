"""Folders of photos, with trouble and without, and what is built of them; tests must not change them."""

import shutil
from pathlib import Path

import pytest

from pipelines.manifest import Dataset
from tests.data.building import MANY, ODD_NAMES, TOO_LONG, build_folder, save
from tests.making import photo, photo_folder


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def odd_dataset(odd: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """The dataset of the odd folder, nothing held out, so that both of a colliding pair lie in one split."""
    return build_folder(odd, tmp_path_factory.mktemp("odd-out") / "data", holdout=0.0, shard_bytes=4000)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 photos that differ, two of which are normalised."""
    root = photo_folder(tmp_path_factory.mktemp("many"), 38)
    photo(900).convert("RGBA").save(root / "class0" / "alpha.png")
    photo(901).save(root / "class0" / "bitmap.bmp")
    return root


@pytest.fixture(scope="session")
def many_dataset(many: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """The dataset of these; tests must not change it."""
    return build_folder(many, tmp_path_factory.mktemp("many-out") / "data", **MANY)
