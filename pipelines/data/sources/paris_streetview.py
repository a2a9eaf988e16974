"""Paris StreetView as its authors send it: `paris_train_original/` is train, `paris_eval/paris_eval_gt/` is test.

The damaged copies in `paris_eval/paris_eval_corrupted/` are no photos. Without these folders and their archives, the
root itself may hold evaluation photos, `001_im.png` ...; other files beside them are rejected.
"""

import re
from collections.abc import Iterator
from typing import Final

from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Absent, Photo

_FOLDERS: Final = {"paris_train_original": "train", "paris_eval/paris_eval_gt": "test"}
_TEST_PHOTO: Final = re.compile(r"\d{3}_im\.png")
ARCHIVES: Final = (
    Archive("paris_train_original", ("paris_train_original",)),
    Archive("paris_eval_75876", ("paris_eval",)),
)


def list_paris_streetview(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the files of the two folders; a missing folder is reported as one absent path."""
    there = {folder for folder in _FOLDERS if tree.exists(folder)}
    if not there:
        for found in tree.files():
            refusal = None if _TEST_PHOTO.fullmatch(found.path) else "its name is not one of an evaluation photo"
            yield found.as_photo("test", refusal=refusal)
        return
    for folder, split in _FOLDERS.items():
        if folder in there:
            yield from (found.as_photo(split) for found in tree.files(folder))
        else:
            yield Absent(folder)
