"""Places365-Standard in its easy format: `places365_standard/{train,val}/<class>/Places365_val_00000001.jpg`.

The label is the folder between split and file. The splits are those of the flat layouts; only `first-12000-easy` needs
a list, categories_places365.txt, which decides the first classes whatever the root holds.
"""

from collections.abc import Iterator
from typing import Final

from pipelines.data.archive.tree import Archive, Tree
from pipelines.data.sources.places365 import CATEGORIES, make_val_choice, read_categories
from pipelines.records import Absent, Photo

_FOLDER: Final = "places365_standard"
ARCHIVES: Final = (
    Archive("places365standard_easyformat", (_FOLDER,)),
    Archive("filelist_places365-standard", (CATEGORIES,)),
)


def list_places365_easy(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the photos of train and val, then the missing ones of the two; other files of the folder are no photos."""
    tree.require(_FOLDER, needs=f"the folder {_FOLDER} or the archive places365standard_easyformat.tar")
    class_paths: list[str] = []
    if splits == "first-12000-easy":
        tree.require(CATEGORIES, needs=f"{CATEGORIES} for the splits {splits}")
        class_paths = list(read_categories(tree).values())
    stays = make_val_choice(splits, class_paths)
    waiting = {"train", "val"}
    for found in tree.files(_FOLDER):
        _, split, *folders, _ = found.path.split("/") if found.path.count("/") > 1 else ("", "", "")
        if split in ("train", "val"):
            waiting.discard(split)
            label = "/".join(folders)
            rest = split == "val" and not stays(found.path, label.replace("/", "-"))
            yield found.as_photo("rest" if rest else split, label or None)
    yield from (Absent(f"{_FOLDER}/{split}") for split in sorted(waiting))
