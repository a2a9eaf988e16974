"""CelebA-HQ: 30,000 empty faces in a tar, a made-up mapping with the published counts, and every way to split them."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from infra import storage
from pipelines.data.sources import DATASETS
from pipelines.data.sources.celebahq import ATTRIBUTES, FLISTS, MAPPING, NUM_FACES
from pipelines.records import Absent, UsageError
from tests.data.trees import absent, files, list_photos, put, tar_bytes, write_files

pytestmark = pytest.mark.thorough

PARTITIONS = "list_eval_partition.txt"


def originals() -> list[int]:
    """CelebA numbers of the faces: 24,183 of train, 2,993 of val, 2,824 of test, with the first and last of each."""
    train = [*range(1, 1 + 6 * 24_182, 6), 162_770]
    val = [*range(162_771, 162_771 + 6 * 2_992, 6), 182_637]
    test = [*range(182_638, 182_638 + 6 * 2_823, 6), 202_599]
    numbers = train + val + test
    return [numbers[index * 7919 % NUM_FACES] for index in range(NUM_FACES)]


@cache
def lists() -> dict[str, bytes]:
    """The lists that lie beside the faces; odd numbers of CelebA are men."""
    partition = (f"{n:06d}.jpg {(n > 162_770) + (n > 182_637)}" for n in range(1, 202_600))
    mapping = (f"{i} {n - 1} {n:06d}.jpg" for i, n in enumerate(originals()))
    sexes = (f"{n:06d}.jpg -1  {1 if n % 2 else -1}  1" for n in range(1, 202_600))
    flists = {name: range(start, NUM_FACES, 15) for start, name in enumerate(FLISTS.values())}
    flists["train_shuffled.flist"] = [n for n in range(NUM_FACES) if n % 15 != 1]  # type: ignore[assignment]
    return {
        PARTITIONS: "\n".join(partition).encode(),
        MAPPING: "\n".join(["idx    orig_idx    orig_file", *mapping]).encode(),
        ATTRIBUTES: "\n".join(["202599", "5_o_Clock_Shadow Male Young ", *sexes]).encode(),
        **{name: "\n".join(f"{n}.jpg" for n in numbers).encode() for name, numbers in flists.items()},
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CelebAMask-HQ as it is published, in a tar, with all lists that any splits need."""
    root = write_files(tmp_path_factory.mktemp("celebahq"), lists())
    faces = {f"CelebAMask-HQ/CelebA-HQ-img/{index}.jpg": b"" for index in range(NUM_FACES)}
    put(str(root / "CelebAMask-HQ.tar"), tar_bytes(faces))
    return root


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        ("celeba", {"train": 24_183, "val": 2_993, "test": 2_824}),
        ("spn", {"train": 27_176, "test": 2_824}),
        ("deepgin", {"train": 27_000, "test": 3_000}),
        ("mhtma", {"train": 28_000, "test": 2_000}),
        ("lama", {"train": 28_000, "val": 2_000}),
    ],
)
def test_splits_have_the_published_counts(root: Path, splits: str, counts: dict[str, int]) -> None:
    faces = list_photos("celebahq", root, splits)
    assert {face.refusal for face in faces.values()} == {None}
    assert Counter(face.split for face in faces.values()) == counts
    if splits == "mhtma":
        numbers = originals()
        test = [int(Path(path).stem) for path, face in faces.items() if face.split == "test"]
        assert sum(numbers[index] % 2 for index in test) == 1000


def test_no_face_at_a_border_of_the_partition_changes_its_side(root: Path) -> None:
    faces, numbers = list_photos("celebahq", root, "celeba"), originals()
    for number, split in ((162_770, "train"), (162_771, "val"), (182_637, "val"), (182_638, "test")):
        assert faces[f"CelebAMask-HQ/CelebA-HQ-img/{numbers.index(number)}.jpg"].split == split


def test_a_selection_is_the_same_in_every_layout_and_in_a_part_of_it(root: Path, tmp_path: Path) -> None:
    splits = {int(Path(path).stem): face.split for path, face in list_photos("celebahq", root, "deepgin").items()}
    some = write_files(tmp_path, {f"{index:05d}.png": b"" for index in range(0, NUM_FACES, 97)})
    faces = list_photos("celebahq", some, "deepgin")
    assert {path: face.split for path, face in faces.items()} == {path: splits[int(path[:5])] for path in faces}
    gone = absent("celebahq", some, "deepgin")
    assert len(gone) == NUM_FACES - len(faces)
    assert gone[:2] == ["00001.png", "00002.png"]


def test_names_of_celeba_get_their_number_through_the_mapping(root: Path, tmp_path: Path) -> None:
    numbers = originals()
    names = {f"{numbers[index]:06d}.jpg": index for index in (0, 5, 29_999)}
    some = write_files(tmp_path, lists() | files(*names, "199999.jpg", "notes.txt", "-1.jpg"))
    for splits in DATASETS["celebahq"].splits:
        by_index = {int(Path(p).stem): face.split for p, face in list_photos("celebahq", root, splits).items()}
        faces = list_photos("celebahq", some, splits)
        assert {name: faces[name].split for name in names} == {name: by_index[i] for name, i in names.items()}
        assert {path for path, face in faces.items() if face.refusal} == {"199999.jpg", "notes.txt", "-1.jpg"}
    assert f"{numbers[1]:06d}.jpg" in absent("celebahq", some)


def test_names_of_celeba_have_a_partition_without_the_mapping(tmp_path: Path) -> None:
    faces = files("000001.jpg", "162771.jpg", "182638.jpg", "0.jpg")
    root = write_files(tmp_path, faces | {PARTITIONS: lists()[PARTITIONS]})
    found = list_photos("celebahq", root)
    assert [found[path].split for path in faces] == ["train", "val", "test", "train"]
    assert [path for path in faces if found[path].refusal] == ["0.jpg"]
    assert {face.split for face in list_photos("celebahq", root, "spn").values()} == {"train", "test"}
    assert absent("celebahq", root) == []


def test_two_files_of_one_number_are_one_face(tmp_path: Path) -> None:
    found = list_photos("celebahq", write_files(tmp_path, files("00007.png", "7.png")), "deepgin")
    assert sorted(face.refusal or "" for face in found.values()) == ["", "another file has the same number"]


@pytest.mark.parametrize(
    ("splits", "name", "data", "words"),
    [
        ("celeba", PARTITIONS, None, f"no {PARTITIONS} under .*must hold .*deepgin need no list"),
        ("mhtma", MAPPING, None, f"no {MAPPING} under .*comes with CelebAMask-HQ"),
        ("mhtma", ATTRIBUTES, None, f"no {ATTRIBUTES} under"),
        ("mhtma", ATTRIBUTES, b"1\nYoung Old\n000001.jpg 1 1", "no list of attributes with a column `Male`"),
        ("lama", "val_shuffled.flist", None, "no val_shuffled.flist under .*LaMa's lists"),
        ("lama", "val_shuffled.flist", b"photo.jpg", "is no list of faces: expected lines like `27049.jpg`"),
        ("celeba", PARTITIONS, b"000001.jpg 0", f"{PARTITIONS} does not name .*: give the whole list"),
        ("celeba", PARTITIONS, b"face.jpg 0", "names a photo that is not CelebA's"),
        ("mhtma", ATTRIBUTES, b"1\nMale\n000001.jpg 1", f"{ATTRIBUTES} does not name .*: give the whole list"),
        ("celeba", MAPPING, b"0 5 000005.jpg", "is no mapping: expected lines"),
        ("celeba", MAPPING, b"0 4", "is no mapping: expected lines"),
        ("celeba", MAPPING, b"30000 4 000005.jpg", "is no mapping: expected lines"),
        ("celeba", MAPPING, b"0 4 000005.jpg", "does not map all of the 30000 faces"),
    ],
)
def test_lists_that_are_missing_or_none_are_refused(
    splits: str, name: str, data: bytes | None, words: str, tmp_path: Path
) -> None:
    root = write_files(tmp_path, lists() | files("0.jpg") | ({name: data} if data is not None else {}))
    if data is None:
        storage.remove(str(root / name))
    with pytest.raises(UsageError, match=words):
        list(DATASETS["celebahq"].list_items(str(root), splits, "memory://never"))


def test_an_empty_root_has_only_absent_faces(tmp_path: Path) -> None:
    items = list(DATASETS["celebahq"].list_items(str(tmp_path), "deepgin", "memory://never"))
    assert items[0] == Absent("0.jpg")
    assert len(items) == NUM_FACES
