"""CelebA as published: `img_align_celeba/000001.jpg` ... and the official `list_eval_partition.txt` beside it.

Partition 0 is train, 1 is val, 2 is test. A root may hold a part of the 202,599 files, or img_align_celeba.zip in
place of the folder; files that the list does not name are rejected. In the splits `first-12000-test`, test holds the
first 12,000 of the official test files, on which SPN was measured; the other 7,962 are `rest`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from pipelines.data.archive.file_lists import PublishedList
from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Absent, Photo, UsageError

SPLITS: Final = ("train", "val", "test", "rest")
PARTITION_LIST: Final = "list_eval_partition.txt"
ARCHIVES: Final = (Archive("img_align_celeba", ("img_align_celeba",)),)
_FOLDER: Final = "img_align_celeba"
_TEST, _REST = 2, 3
_NUM_FIRST: Final = 12_000


def list_celeba(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the files of `img_align_celeba` with their split, then the names of the list without a file."""
    tree.require(PARTITION_LIST, _FOLDER, needs=f"{PARTITION_LIST} and the folder or archive {_FOLDER} of CelebA")
    names = PublishedList(PARTITION_LIST, partial(_entries, tree, splits))
    yield from names.photos(tree.files(_FOLDER), lambda found, split: found.as_photo(SPLITS[split]))
    yield from names.absent_files()


def partitions(tree: Tree) -> Iterator[tuple[str, int]]:
    """Yield the lines of the partition list, in its order: file name and 0, 1 or 2."""
    try:
        for line in tree.lines(PARTITION_LIST):
            name, partition = line.split()
            yield name, ("0", "1", "2").index(partition)
    except ValueError:
        list_uri = f"{tree.root}/{PARTITION_LIST}"
        raise UsageError(f"{list_uri} is no partition list: expected lines like `000001.jpg 0`") from None


def _entries(tree: Tree, splits: str) -> Iterator[tuple[str, int]]:
    num_test = 0
    for name, partition in partitions(tree):
        num_test += partition == _TEST
        late = splits == "first-12000-test" and num_test > _NUM_FIRST
        yield f"{_FOLDER}/{name}", _REST if late and partition == _TEST else partition
