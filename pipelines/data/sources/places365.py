"""Places365-Standard in its flat layouts, at 256 and at high resolution, and Places2 at 128 in a like one.

`data_256/a/airfield/00000001.jpg`, `val_256/Places365_val_00000001.jpg` and `test_256/...`, or the archives that hold
these folders; `data_large` and so on for the high resolution. The label is the class path, `a/airfield`, and comes
from the lists of filelist_places365-standard.tar. A missing part, such as test, is left out and reported as absent.

Splits: `published`, and three that select photos of val, the others being `rest`. SPN was measured on the first 12,000
of val: `first-12000-flat` are the first by number, classes mixed; `first-12000-easy` are the first of the sorted
easy-format folder, whole classes. `mhtma` are 2,000 drawn by a digest of their numbers: the paper's were random, and
the list was not published.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipelines.data.archive.file_lists import PublishedList, draw_subset
from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Absent, Photo, UsageError

SPLITS: Final = ("published", "first-12000-flat", "first-12000-easy", "mhtma")
CATEGORIES: Final = "categories_places365.txt"
_LISTS: Final = ("places365_train_standard.txt", "places365_val.txt", "places365_test.txt")
_NUM_VAL: Final = 36_500
_NUM_FIRST: Final = 12_000
_VAL_PER_CLASS: Final = 100
_NUMBER: Final = re.compile(r".*?(\d{8})\.\w+")
_NO_CLASS: Final = -1

IsSelected = Callable[[str, str | None], bool]
"""Function from path and label of a val photo to whether it stays in val."""


@dataclass(frozen=True)
class Part:
    """One published split: its folder, and its list unless the folders hold all labels."""

    split: str
    folder: str
    list: str | None = None
    begin: str = ""
    """Prefix of names in the list that is not below the folder."""


SMALL, LARGE = (
    (
        Part("train", f"data_{size}", _LISTS[0], "/"),
        Part("val", f"val_{size}", _LISTS[1]),
        Part("test", f"test_{size}", _LISTS[2]),
    )
    for size in ("256", "large")
)
PLACES2_128: Final = (Part("train", "train"), Part("val", "val", "places2_val_labels.txt", "val/"))
_FILE_LISTS: Final = Archive("filelist_places365-standard", (CATEGORIES, *_LISTS))
SMALL_ARCHIVES, LARGE_ARCHIVES = (
    (
        Archive(f"train_{size}_places365standard", (f"data_{size}",)),
        Archive(f"val_{size}", (f"val_{size}",)),
        Archive(f"test_{size}", (f"test_{size}",)),
        _FILE_LISTS,
    )
    for size in ("256", "large")
)


def list_places365(parts: tuple[Part, ...], tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the photos of all parts under the root, each followed by the names of its list without a file."""
    there = [part for part in parts if tree.exists(part.folder)]
    if not there:
        raise UsageError(f"none of {', '.join(part.folder for part in parts)} under {tree.root}: --root must hold one")
    lists = [part.list for part in there if part.list]
    if lists:
        tree.require(CATEGORIES, *lists, needs="the lists of filelist_places365-standard.tar, or that archive")
    yield from (Absent(part.folder) for part in parts if part not in there)
    classes = read_categories(tree) if lists else {}
    stays = make_val_choice(splits, list(classes.values()))
    for part in there:
        yield from _list_part(part, tree, classes, stays)


def read_categories(tree: Tree) -> dict[int, str]:
    """Class path, `a/airfield`, by class id."""
    try:
        pairs = (line.split() for line in tree.lines(CATEGORIES))
        return {int(number): path.removeprefix("/") for path, number in pairs}
    except ValueError:
        raise UsageError(
            f"{tree.root}/{CATEGORIES} is no list of classes: expected lines like `/a/airfield 0`"
        ) from None


def to_easy_name(class_path: str) -> str:
    """Folder of a class in the easy format: without its letter, inner folders joined by `-`."""
    return class_path.partition("/")[2].replace("/", "-")


def make_val_choice(splits: str, class_paths: list[str]) -> IsSelected:
    """Function that selects the photos of val; a label may be a class path or the name of an easy-format folder."""
    if splits == "published":
        return lambda path, label: True
    if splits == "first-12000-easy":
        first = sorted(map(to_easy_name, class_paths))[: _NUM_FIRST // _VAL_PER_CLASS]
        chosen = {*first, *(path for path in class_paths if to_easy_name(path) in first)}
        return lambda path, label: label in chosen
    numbers = frozenset(range(1, _NUM_FIRST + 1))
    if splits == "mhtma":
        numbers = draw_subset(2000, range(1, _NUM_VAL + 1), "places365", "mhtma")
    return lambda path, label: (match := _NUMBER.fullmatch(path)) is not None and int(match[1]) in numbers


def _list_part(part: Part, tree: Tree, classes: dict[int, str], stays: IsSelected) -> Iterator[Photo | Absent]:
    def split_of(path: str, label: str | None) -> str:
        return "rest" if part.split == "val" and not stays(path, label) else part.split

    if part.list is None:
        for found in tree.files(part.folder):
            label = found.path.removeprefix(f"{part.folder}/").rpartition("/")[0] or None
            yield found.as_photo(split_of(found.path, label), label)
        return
    names = PublishedList(part.list, partial(_entries, part, tree, classes))
    yield from names.photos(
        tree.files(part.folder),
        lambda found, number: found.as_photo(split_of(found.path, classes.get(number)), classes.get(number)),
        part.split,
    )
    yield from names.absent_files()


def _entries(part: Part, tree: Tree, classes: dict[int, str]) -> Iterator[tuple[str, int]]:
    assert part.list is not None
    is_test = part.split == "test"  # its labels are not published
    try:
        for line in tree.lines(part.list):
            name, number = (line.strip(), _NO_CLASS) if is_test else _parse_line(line, classes)
            yield f"{part.folder}/{name.removeprefix(part.begin)}", number
    except ValueError:
        example = "`<path>`" if is_test else f"`{part.begin}<path> <class id>`"
        raise UsageError(
            f"{tree.root}/{part.list} is no list of {part.split} photos: expected lines like {example}"
        ) from None


def _parse_line(line: str, classes: dict[int, str]) -> tuple[str, int]:
    name, number = line.split()
    if int(number) not in classes:
        raise ValueError(f"there is no class {number}")
    return name, int(number)
