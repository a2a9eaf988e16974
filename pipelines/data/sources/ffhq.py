"""FFHQ as published: `images1024x1024/00000/00000.png` ... `69000/69999.png`, folders of a thousand.

The publisher's split: the first 60,000 are train, the last 10,000 val. In the splits `deepgin`, val is a thousand of
those 10,000, drawn by a digest of their numbers, and the others are `rest`: DeepGIN was measured on a random thousand
of all 70,000, and its list was not published.
"""

from collections.abc import Iterator
from typing import Final

from pipelines.data.archive.file_lists import draw_subset, photos_by_number
from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Absent, Photo

ARCHIVES: Final = (Archive("images1024x1024", ("images1024x1024",)),)
NUM_PHOTOS: Final = 70_000
_NUM_TRAIN: Final = 60_000
_FOLDER: Final = "images1024x1024"


def list_ffhq(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the files of `images1024x1024` with their split, then the numbers without a file."""
    tree.require(_FOLDER, needs=f"the folder or archive {_FOLDER} of FFHQ")
    held_out = range(_NUM_TRAIN, NUM_PHOTOS)
    val = draw_subset(1000, held_out, "ffhq", "deepgin") if splits == "deepgin" else frozenset(held_out)

    def split_of(index: int) -> str:
        return "train" if index < _NUM_TRAIN else "val" if index in val else "rest"

    yield from photos_by_number(tree.files(_FOLDER), NUM_PHOTOS, _parse_index, _format_path, split_of)


def _format_path(index: int) -> str:
    return f"{_FOLDER}/{index // 1000 * 1000:05d}/{index:05d}.png"


def _parse_index(path: str) -> int | None:
    stem = path.rpartition("/")[2].removesuffix(".png")
    return int(stem) if stem.isdecimal() and stem.isascii() and _format_path(int(stem)) == path else None
