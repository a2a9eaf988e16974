"""What operating systems leave beside photos is no photo, whatever the source, and is counted for what it is."""

import shutil
import tarfile
from pathlib import Path

import pytest

from jobs import shard
from pipelines.data.archive.system_files import is_system_file_reason, find_system_file_reason
from pipelines.data.build.eval_masks import _files, hash_mask_files
from tests.data.building import built, mask, rows_by_source, rows_in_this_process, save
from tests.data.test_masks_and_twins import plan
from tests.data.trees import PACKERS, listed, tar_bytes, zip_bytes
from tests.making import files_of, photo_folder

LEFT = (
    ".DS_Store",
    "class0/.DS_Store",
    "class0/._0000.jpg",
    "__MACOSX/class0/._0002.jpg",
    "Thumbs.db",
    "class1/desktop.ini",
    "@eaDir/0001.png/SYNOPHOTO_THUMB_M.png",
)


def with_left_files(root: Path, count: int = 4) -> Path:
    """A folder of photos that several operating systems have visited."""
    photo_folder(root, count)
    for name in LEFT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\5\x16\7 left")
    return root


@pytest.mark.parametrize("suffix", ["", ".zip", ".tgz"])
def test_they_are_on_the_ledger_and_no_photos(suffix: str, tmp_path: Path) -> None:
    root = with_left_files(tmp_path / "in")
    if suffix:
        Path(f"{root}{suffix}").write_bytes(PACKERS[suffix](files_of(root)))
    rows = rows_in_this_process(plan(Path(f"{root}{suffix}"), tmp_path / "out"))
    assert {path for path, row in rows.items() if row["outcome"] == "written"} == rows.keys() - {*LEFT}
    assert {path for path, row in rows.items() if is_system_file_reason(row["reason"])} == {*LEFT}


@pytest.mark.usefixtures("ray_cluster")
def test_more_of_them_than_photos_stop_no_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photo_folder(tmp_path / "in", 12)
    tree = files_of(root)
    zipped = tree | {f"__MACOSX/{Path(path).parent}/._{Path(path).name}": b"\0\5\x16\7" for path in tree}
    (tmp_path / "all.zip").write_bytes(zip_bytes(zipped | {".DS_Store": b"\0\0\0\1Bud1"}))
    words = ["--source", "folder", "--root", str(tmp_path / "all.zip"), "--out", str(tmp_path / "out"), "--masks"]
    report = shard.run(shard.parse(words))
    assert (report["num_inputs"], report["num_written"], report["num_system_files"]) == (25, 12, 13)
    assert "operating system (.DS_Store, ._x.jpg ...), not taken for photos: 13" in capsys.readouterr().err


def test_a_source_with_a_list_says_the_same_of_them(tmp_path: Path) -> None:
    root = tmp_path / "in"
    photo_folder(root / "photos", 4)
    (root / "img_align_celeba").mkdir()
    names = [f"{number:06d}.jpg" for number in range(2)]
    for number, name in enumerate(names):
        shutil.copy(root / f"photos/class0/{2 * number:04d}.jpg", root / "img_align_celeba" / name)
        (root / "img_align_celeba" / f"._{name}").write_bytes(b"\0\5\x16\7")
    (root / "list_eval_partition.txt").write_text("".join(f"{name} 0\n" for name in names))
    found = listed("celeba", root)
    assert {path for path, photo in found.items() if photo.refusal is None} == {f"img_align_celeba/{n}" for n in names}
    assert {photo.refusal for photo in found.values() if photo.refusal} == {find_system_file_reason(".DS_Store")}


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("mode", "name"), [("w:gz", "a.tar"), ("w:xz", "a.tgz")])
def test_an_archive_is_read_as_what_it_is_whatever_its_name(mode: str, name: str, tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "in", 6)
    (tmp_path / name).write_bytes(tar_bytes(files_of(root), mode))
    assert tarfile.is_tarfile(tmp_path / name)
    unpacked, packed = (built(place, tmp_path / f"out{place.suffix}") for place in (root, tmp_path / name))
    assert packed.manifest_sha256 == unpacked.manifest_sha256
    assert rows_by_source(packed) == rows_by_source(unpacked)


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_a_zip_is_a_zip_whatever_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(zip_bytes({"a.jpg": b"1", "b/c.png": b"22"}))
    assert {path: photo.size_bytes for path, photo in listed("folder", tmp_path / name).items()} == {
        "a.jpg": 1,
        "b/c.png": 2,
    }


@pytest.mark.parametrize("path", ["a/b.jpg", ".hidden.jpg", "_x.jpg", "MACOSX/x.jpg", "x.DS_Store.png", "thumbs.dbx"])
def test_other_files_are_none_of_them(path: str) -> None:
    assert find_system_file_reason(path) is None


def test_they_are_no_mask_files(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(mask(), tmp_path / name)
    before = hash_mask_files(str(tmp_path))
    (tmp_path / ".DS_Store").write_bytes(b"left")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    _files.cache_clear()
    assert hash_mask_files(str(tmp_path)) == before
