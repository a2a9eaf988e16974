"""ADE20K as published in 2016: `images/{training,validation}/<letter>/<scene>/ADE_train_00000001.jpg`.

Beside each photo lies its segmentation map `_seg.png`, a plane of it; a map without a photo is rejected, and
`_parts_<n>.png` and `_atr.txt` are skipped. In the splits `aim`, train holds the photos that the AIM 2020 challenge
lists in new_image_names.txt (10,330 names); other training photos are `rest`, and val is ADE20K's own validation,
because the challenge did not publish its own. The splits `ade20k` are the dataset's own and need no list. DeepGIN's
`train/` is read too, and so is a root that holds the letters.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Absent, Photo

NAME_LIST: Final = "new_image_names.txt"
ARCHIVES: Final = (Archive("ADE20K_2016_07_26", ("ADE20K_2016_07_26",)),)
_IMAGES: Final = ("ADE20K_2016_07_26/images", "images")
_NO_PHOTO: Final = re.compile(r"(.*)_(?:parts_\d+\.png|atr\.txt)")


def list_ade20k(tree: Tree, splits: str) -> Iterator[Photo | Absent]:
    """Yield the photos with their maps, label = path of the scene; then the challenge's names without a file."""
    listed: set[str] | None = None
    if splits == "aim":
        tree.require(NAME_LIST, needs=f"{NAME_LIST} of the AIM 2020 challenge; without it, use --splits ade20k")
        listed = {line.strip().rpartition("/")[2] for line in tree.lines(NAME_LIST)}
    waiting = set(listed or ())

    def split_of_training(name: str) -> str:
        waiting.discard(name)
        return "train" if listed is None or name in listed else "rest"

    images = tree.find_first(*_IMAGES)
    training = f"{images}/training" if images else tree.find_first("train") or ""
    yield from _list_part(tree, training, split_of_training)
    if images:
        yield from _list_part(tree, f"{images}/validation", lambda name: "val")
    yield from (Absent(f"{training}/{name}".lstrip("/")) for name in sorted(waiting))


def _list_part(tree: Tree, folder: str, split_of: Callable[[str], str]) -> Iterator[Photo | Absent]:
    if not tree.exists(folder):
        yield Absent(folder)
        return
    for found, planes in tree.pictures(folder):
        if not _NO_PHOTO.fullmatch(found.path) and found.path != NAME_LIST:
            scene, _, name = found.path.removeprefix(folder).lstrip("/").rpartition("/")
            yield found.as_photo(split_of(name), scene or None, planes=planes)
