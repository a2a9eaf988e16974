"""CelebA-HQ, 30,000 faces with the numbers 0 to 29,999, as published twice, and with CelebA's own file names.

CelebAMask-HQ has `CelebA-HQ-img/0.jpg` ...; the progressive-GAN tool makes `00000.png` ... under the root. Names of
six digits, `000001.jpg`, are those of CelebA and need the mapping file of CelebAMask-HQ to be given a number.

Splits, by number. `celeba`: the partition of the CelebA photo that a face was made from, through that mapping
(24,183 / 2,993 / 2,824). `spn`: its train and val together, and its test. `deepgin`: 27,000 and 3,000; `mhtma`: all but
1,000 men and 1,000 women of list_attr_celeba.txt; neither paper published which, so both are drawn by a digest of the
numbers. `lama`: the lists train_shuffled.flist and val_shuffled.flist.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from pipelines.data.archive.file_lists import draw_subset, photos_by_number
from pipelines.data.archive.tree import Archive, Tree
from pipelines.data.sources.celeba import PARTITION_LIST, SPLITS, partitions
from pipelines.records import Absent, Found, Photo, UsageError

NUM_FACES: Final = 30_000
MAPPING: Final = "CelebA-HQ-to-CelebA-mapping.txt"
ATTRIBUTES: Final = "list_attr_celeba.txt"
FLISTS: Final = {"train": "train_shuffled.flist", "val": "val_shuffled.flist"}
_MASK_HQ: Final = "CelebAMask-HQ"
_FOLDERS: Final = (f"{_MASK_HQ}/CelebA-HQ-img", "CelebA-HQ-img")
ARCHIVES: Final = (Archive(_MASK_HQ, (_MASK_HQ,)),)
_NO_PHOTOS: Final = {MAPPING, ATTRIBUTES, PARTITION_LIST, *FLISTS.values()}
_CELEBA_DIGITS: Final = 6

SplitOf = Callable[[int], str]
"""Function from the number of a face to its split."""


def list_celebahq(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the faces with their split, then those of the 30,000 without a file.

    Without the mapping, faces under CelebA's names are listed for the splits of CelebA, and none is reported absent.
    """
    folder = tree.find_first(*_FOLDERS) or ""
    files = (found for found in tree.files(folder) if found.path not in _NO_PHOTOS)
    if splits in ("celeba", "spn") and _find_list(tree, MAPPING) is None:
        yield from _photos_by_partition(files, _read_celeba_splits(tree, splits))
        return
    originals = _read_mapping(tree) if _find_list(tree, MAPPING) or splits == "mhtma" else []
    names = _Names(folder, originals)
    yield from photos_by_number(
        files, NUM_FACES, names.index_of, names.path_of, _make_split_of(tree, splits, originals)
    )


class _Names:
    """Conversion between the path and the number of a face, for all ways to name its file."""

    def __init__(self, folder: str, originals: list[int]) -> None:
        self._below = f"{folder}/" if folder else ""
        self._originals = originals
        self._index = {original: index for index, original in enumerate(originals)}
        self._digits, self._suffix = 1, "jpg"

    def index_of(self, path: str) -> int | None:
        """Number in the name of a file, None where there is none."""
        stem, _, suffix = path.removeprefix(self._below).rpartition(".")
        if not (stem.isdecimal() and stem.isascii()):
            return None
        if len(stem) == _CELEBA_DIGITS or stem.startswith("0"):
            self._digits = max(self._digits, len(stem))
        self._suffix = suffix
        return self._index.get(int(stem)) if len(stem) == _CELEBA_DIGITS else int(stem)

    def path_of(self, index: int) -> str:
        """Path that a face would have, named like the files that were seen."""
        number = self._originals[index] if self._digits == _CELEBA_DIGITS and self._originals else index
        return f"{self._below}{number:0{self._digits}d}.{self._suffix}"


def _photos_by_partition(files: Iterable[Found], splits: dict[int, str]) -> Iterator[Photo]:
    for found in files:
        stem = found.path.rpartition("/")[2].rpartition(".")[0]
        split = splits.get(int(stem)) if len(stem) == _CELEBA_DIGITS and stem.isdecimal() else None
        refusal = None if split else f"it is not named as in CelebA and there is no {MAPPING}"
        yield found.as_photo(split or "train", refusal=refusal)


def _make_split_of(tree: Tree, splits: str, originals: list[int]) -> SplitOf:
    """Function from the number of a face to its split; raises UsageError where a list that it needs has gaps."""
    if splits == "lama":
        return _read_lama_splits(tree).__getitem__
    if splits in ("celeba", "spn"):
        of_original = _read_celeba_splits(tree, splits)
        _refuse_gaps(PARTITION_LIST, originals, of_original)
        return lambda index: of_original[originals[index]]
    if splits == "deepgin":
        test = draw_subset(3000, range(NUM_FACES), "celebahq", "deepgin")
    else:
        is_male = _read_sexes(tree)
        _refuse_gaps(ATTRIBUTES, originals, is_male)
        of_sex = ([i for i in range(NUM_FACES) if is_male[originals[i]] == male] for male in (True, False))
        test = frozenset(index for faces in of_sex for index in draw_subset(1000, faces, "celebahq", "mhtma"))
    return lambda index: "test" if index in test else "train"


def _find_list(tree: Tree, name: str) -> str | None:
    return tree.find_first(name, f"{_MASK_HQ}/{name}")


def _read_mapping(tree: Tree) -> list[int]:
    """Number of the CelebA photo of each face, counted from 1 as in CelebA's file names."""
    path = _find_list(tree, MAPPING)
    if path is None:
        raise UsageError(f"no {MAPPING} under {tree.root}: it comes with CelebAMask-HQ and these splits need it")
    originals = [0] * NUM_FACES
    try:
        for index, from_zero, file in (line.split() for line in tree.lines(path)):
            if index != "idx":
                originals[int(index)] = int(file.removesuffix(".jpg"))
                if int(from_zero) + 1 != originals[int(index)]:
                    raise ValueError
    except (ValueError, IndexError):
        raise UsageError(f"{tree.root}/{path} is no mapping: expected lines like `0 119613 119614.jpg`") from None
    if not all(originals) or len(set(originals)) < NUM_FACES:
        raise UsageError(f"{tree.root}/{path} does not map all of the {NUM_FACES} faces, each to another photo")
    return originals


def _read_celeba_splits(tree: Tree, splits: str) -> dict[int, str]:
    """Split by number of a CelebA photo."""
    tree.require(PARTITION_LIST, needs=f"{PARTITION_LIST} of CelebA; the splits deepgin need no list")
    of_partition = SPLITS[:3] if splits == "celeba" else ("train", "train", "test")
    try:
        return {int(name.removesuffix(".jpg")): of_partition[partition] for name, partition in partitions(tree)}
    except ValueError as fault:
        raise UsageError(f"{tree.root}/{PARTITION_LIST} names a photo that is not CelebA's: {fault}") from None


def _refuse_gaps(name: str, originals: list[int], known: Collection[int]) -> None:
    gap = next((original for original in originals if original not in known), None)
    if gap is not None:
        raise UsageError(f"{name} does not name {gap:06d}.jpg, from which a face was made: give the whole list")


def _read_sexes(tree: Tree) -> dict[int, bool]:
    """Whether the attribute `Male` is 1, by number of a CelebA photo."""
    tree.require(ATTRIBUTES, needs=f"{ATTRIBUTES} of CelebA, which names men and women")
    lines = tree.lines(ATTRIBUTES)
    try:
        next(lines)
        column = next(lines).split().index("Male") + 1
        return {int(row[0].removesuffix(".jpg")): row[column] == "1" for row in map(str.split, lines)}
    except (ValueError, IndexError, StopIteration):
        raise UsageError(f"{tree.root}/{ATTRIBUTES} is no list of attributes with a column `Male`") from None


def _read_lama_splits(tree: Tree) -> list[str]:
    """Split of each number; `rest` where LaMa's lists do not name it."""
    tree.require(*FLISTS.values(), needs="LaMa's lists of CelebA-HQ")
    splits = ["rest"] * NUM_FACES
    for split, name in FLISTS.items():
        try:
            for line in tree.lines(name):
                splits[int(line.strip().rpartition("/")[2].partition(".")[0])] = split
        except (ValueError, IndexError):
            raise UsageError(f"{tree.root}/{name} is no list of faces: expected lines like `27049.jpg`") from None
    return splits
