"""Every source says the same of a tree and reads the same bytes, be it a folder, an archive or one that holds some."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra import storage
from pipelines.data.archive.read import read_photo
from pipelines.data.sources import DATASETS
from tests.data.trees import PACKERS, TREES, Files, account, content, list_photos, put, write_files, zip_bytes

pytestmark = pytest.mark.thorough

SPLITS = [(source, splits) for source in sorted(TREES) for splits in DATASETS[source].splits]


def test_every_source_has_a_tree_here() -> None:
    assert set(DATASETS) - set(TREES) == {"packages", "celebahq"}  # the latter has 30,000 faces: test_sources_celebahq


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(("source", "splits"), SPLITS)
def test_an_archive_is_as_good_as_a_folder(source: str, splits: str, suffix: str, tmp_path: Path) -> None:
    as_folder = account(source, write_files(tmp_path / "folder", TREES[source]), splits, "memory://never")
    archive = put(str(tmp_path / f"all{suffix}"), PACKERS[suffix](TREES[source]))
    assert account(source, archive, splits, str(tmp_path / "spooled")) == as_folder
    assert sum(isinstance(said, tuple) and said[4] is not None for said in as_folder.values()) >= 2


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("source", [name for name in TREES if DATASETS[name].archives])
def test_published_archives_may_lie_in_the_root(source: str, suffix: str, tmp_path: Path) -> None:
    as_folder = account(source, write_files(tmp_path / "folder", TREES[source]), None, "memory://never")
    root = write_files(tmp_path / "packed", _pack(source, PACKERS[suffix], suffix))
    assert not any((root / archive.holds[0]).exists() for archive in DATASETS[source].archives)
    assert account(source, root, None, str(tmp_path / "spooled")) == as_folder


@pytest.mark.parametrize("suffix", ["", ".tar", ".tgz", ".zip"])
@pytest.mark.parametrize("source", sorted(TREES))
def test_a_remote_root_is_as_good_as_a_local_one(source: str, suffix: str, tmp_path: Path) -> None:
    as_folder = account(source, write_files(tmp_path / "folder", TREES[source]), None, "memory://never")
    root = f"memory://{tmp_path.name}/{source}{suffix}"
    for path, data in TREES[source].items() if not suffix else ():
        put(f"{root}/{path}", data)
    if suffix:
        put(root, PACKERS[suffix](TREES[source]))
    assert account(source, root, None, f"{root}-spooled") == as_folder
    storage.remove(f"memory://{tmp_path.name}")


@pytest.mark.parametrize(("suffix", "once"), [(".tgz", 1), (".tar", 1), (".zip", 2)])  # a zip: data and directory
@pytest.mark.parametrize("source", sorted(TREES))
def test_a_remote_archive_is_downloaded_once(
    source: str, suffix: str, once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = put(f"memory://{tmp_path.name}/all{suffix}", PACKERS[suffix](TREES[source]))
    opened: list[str] = []
    whole = MemoryFileSystem._open

    def note(fs: MemoryFileSystem, path: str, *rest: Any, **more: Any) -> Any:
        opened.append(path)
        return whole(fs, path, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "_open", note)
    assert list_photos(source, root)
    assert sum(path.endswith(suffix) for path in opened) == once


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_are_read_where_they_lie(
    method: int, zip64: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if zip64:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # so that sizes, positions and counts need the wide fields
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    archive = put(str(tmp_path / "all.zip"), b"#!/bin/sh\n" + zip_bytes(TREES["folder"], method, zip64))
    said = account("folder", archive, None, str(tmp_path / "spooled"))
    assert {path: row[4] for path, row in said.items()} == TREES["folder"]
    assert not (tmp_path / "spooled").exists()
    deflated = {photo.place.deflated for photo in list_photos("folder", archive).values() if photo.place}
    assert deflated == {method == zipfile.ZIP_DEFLATED}


def test_a_zip_is_read_forwards_whatever_the_order_of_its_directory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in "cabdfe":
            archive.writestr(name, name * 100)
        archive.filelist.sort(key=lambda info: info.filename)
    photos = list_photos("folder", tmp_path / "all.zip")
    assert "".join(photos) == "cabdfe"
    assert all(read_photo("", photo) == path.encode() * 100 for path, photo in photos.items())


def test_plain_tars_are_read_where_they_lie(tmp_path: Path) -> None:
    archive = put(str(tmp_path / "all.tar"), PACKERS[".tar"](TREES["folder"]))
    said = account("folder", archive, None, str(tmp_path / "spooled"))
    assert {path: row[4] for path, row in said.items()} == TREES["folder"]
    assert not (tmp_path / "spooled").exists()


def test_a_folder_comes_before_an_archive_of_it(tmp_path: Path) -> None:
    root = write_files(tmp_path, TREES["celeba"])
    put(str(root / "img_align_celeba.zip"), zip_bytes({"img_align_celeba/000001.jpg": b"other bytes"}))
    assert account("celeba", root, None, "memory://never")["img_align_celeba/000001.jpg"][4] == b""


def test_large_archives_spill_into_several_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.data.archive.spool.CONTAINER_BYTES", 100_000)
    tree = {f"{number:03d}.jpg": content(f"{number:03d}", 7_000) for number in range(100)}
    archive = put(str(tmp_path / "all.tgz"), PACKERS[".tgz"](tree))
    said = account("folder", archive, None, str(tmp_path / "spooled"))
    assert {path: row[4] for path, row in said.items()} == tree
    containers = sorted(path for path in (tmp_path / "spooled").iterdir() if not path.suffix)
    assert [c.name for c in containers] == [f"{number:06d}" for number in range(7)]
    assert sum(c.stat().st_size for c in containers) == 700_000


def _pack(source: str, pack: Callable[[Files], bytes], suffix: str) -> Files:
    """The tree with every published archive in place of what it holds."""
    left, archives = dict(TREES[source]), {}
    for archive in DATASETS[source].archives:
        held = {p: d for p, d in left.items() if any(p == h or p.startswith(f"{h}/") for h in archive.holds)}
        left = {path: data for path, data in left.items() if path not in held}
        below = f"{archive.below}/" if archive.below else ""
        archives[archive.name + suffix] = pack({path.removeprefix(below): data for path, data in held.items()})
    return left | archives
