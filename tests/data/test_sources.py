"""Sources: what each layout is listed as, and how a root that is none of it is refused."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from infra import storage
from pipelines.data.archive.tree import Tree
from pipelines.data.sources import DATASETS, Source
from pipelines.data.sources.packages import TRAIN, VAL, find_packages_root
from pipelines.records import SPLITS, Found, Photo, UsageError, make_key, sha256_hex
from tests.data.trees import absent, list_photos, write_files
from tests.making import photo

PARTITIONS = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 0\n202599.jpg 2\n"


def celeba_folder(root: Path, partitions: str = PARTITIONS, num_photos: int = 4) -> Path:
    """CelebA in small: photos 1 to `num_photos`, and the partition list."""
    (root / "img_align_celeba").mkdir(parents=True)
    for number in range(1, num_photos + 1):
        photo(number).save(root / "img_align_celeba" / f"{number:06d}.jpg")
    (root / "list_eval_partition.txt").write_text(partitions)
    return root


def test_celeba_has_its_official_splits(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path)
    assert {path: p.split for path, p in list_photos("celeba", root).items()} == {
        "img_align_celeba/000001.jpg": "train",
        "img_align_celeba/000002.jpg": "val",
        "img_align_celeba/000003.jpg": "test",
        "img_align_celeba/000004.jpg": "train",
    }


def test_celeba_lists_what_is_there_and_not_what_the_list_names(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path, num_photos=6)
    photos = list_photos("celeba", root)
    assert len(photos) == 6
    assert {path for path, p in photos.items() if p.refusal} == {
        "img_align_celeba/000005.jpg",
        "img_align_celeba/000006.jpg",
    }


def test_what_the_list_names_and_is_not_there_is_absent(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path, num_photos=2)
    gone = [f"img_align_celeba/{name}.jpg" for name in ("000003", "000004", "202599")]
    assert absent("celeba", root) == gone


def test_first_12000_of_test_are_the_first_by_number(tmp_path: Path) -> None:
    partitions = "".join(f"{number:06d}.jpg {2 if number > 10 else 0}\n" for number in range(1, 12_021))
    names = [f"img_align_celeba/{number:06d}.jpg" for number in (1, 11, 12_010, 12_011, 12_020)]
    root = write_files(tmp_path, dict.fromkeys(names, b"") | {"list_eval_partition.txt": partitions.encode()})
    found = list_photos("celeba", root, "first-12000-test")
    assert [found[name].split for name in names] == ["train", "test", "test", "rest", "rest"]
    assert [photo.split for photo in list_photos("celeba", root).values()] == ["train", "test", "test", "test", "test"]


def test_celeba_knows_sizes_and_no_labels(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path)
    for path, found in list_photos("celeba", root).items():
        assert (found.size_bytes, found.label) == ((root / path).stat().st_size, None)


def test_a_partition_list_from_windows_is_read(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path, PARTITIONS.replace("\n", "\r\n") + "\r\n\r\n")
    assert [p.split for p in list_photos("celeba", root).values()] == ["train", "val", "test", "train"]


@pytest.mark.parametrize("missing", ["list_eval_partition.txt", "img_align_celeba"])
def test_celeba_without_its_parts_is_refused_naming_them(tmp_path: Path, missing: str) -> None:
    root = celeba_folder(tmp_path)
    storage.remove(str(root / missing))
    with pytest.raises(UsageError, match=f"(?s)no {missing} under {root}.*--root must hold"):
        list_photos("celeba", root)


@pytest.mark.parametrize("line", ["000005.jpg 3", "000005.jpg", "000005.jpg train", "000005.jpg 0 1"])
def test_a_list_that_is_none_is_refused_with_an_example(tmp_path: Path, line: str) -> None:
    root = celeba_folder(tmp_path, PARTITIONS + line + "\n")
    with pytest.raises(UsageError, match=r"list_eval_partition.txt is no partition list.*000001\.jpg 0"):
        list_photos("celeba", root)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    root = celeba_folder(tmp_path)
    (root / "list_eval_partition.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="no partition list"):
        list_photos("celeba", root)


def test_a_folder_labels_photos_by_their_first_folder(tmp_path: Path) -> None:
    for name in ("loose.jpg", "cats/1.jpg", "dogs/big/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 7)
    found = list_photos("folder", tmp_path)
    assert {path: p.label for path, p in found.items()} == {
        "loose.jpg": None,
        "cats/1.jpg": "cats",
        "dogs/big/2.png": "dogs",
    }
    assert {(p.split, p.size_bytes) for p in found.values()} == {("train", 7)}


def test_a_folder_lists_every_file_whatever_it_is_called(tmp_path: Path) -> None:
    names = {".hidden", "no suffix", "ünïcode.jpg", "line\nbreak.png", "a.b.c.jpg", "#%?*[1]&.gif", "text.txt", "~"}
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert set(list_photos("folder", tmp_path)) == names


def test_links_to_folders_are_not_walked_into(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.jpg").write_bytes(b"")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    assert not any(path.startswith("real/loop/") for path in list_photos("folder", tmp_path))


def test_packages_hold_real_photos_in_both_splits() -> None:
    root = Path(find_packages_root())
    found = list_photos("packages", str(root))
    assert {path for path, p in found.items() if p.split == "train"} == set(TRAIN)
    assert {path for path, p in found.items() if p.split == "val"} == set(VAL)
    for path, seen in found.items():
        assert (root / path).stat().st_size == seen.size_bytes
        with Image.open(io.BytesIO((root / path).read_bytes())) as image:
            assert min(image.size) >= 256


def test_packages_hold_out_whole_photos() -> None:
    root = Path(find_packages_root())
    train, val = ({sha256_hex((root / path).read_bytes()) for path in paths} for paths in (TRAIN, VAL))
    assert not train & val
    assert len({make_key(path) for path in TRAIN + VAL}) == len(TRAIN) + len(VAL)


def test_packages_elsewhere_are_refused_naming_the_first_photo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no {TRAIN[0]} under {tmp_path}: install"):
        list_photos("packages", tmp_path)


def test_only_packages_have_a_root_of_their_own() -> None:
    assert [name for name, source in DATASETS.items() if source.default_root] == ["packages"]


def test_a_source_gives_one_of_the_four_splits() -> None:
    def list_photos(_: Tree, split: str) -> Iterator[Photo]:
        yield Found("a.jpg", 3).as_photo(split)

    source = Source(list_photos, (*SPLITS, "trian"))
    assert [
        p.split for s in SPLITS for p in source.list_items("memory://x", s, "memory://y") if isinstance(p, Photo)
    ] == list(SPLITS)
    with pytest.raises(UsageError, match=r"a\.jpg is in the split 'trian': use one of train, val, test, rest"):
        list(source.list_items("memory://x", "trian", "memory://y"))
