"""Oxford Buildings: 5,062 photos side by side, `all_souls_000000.jpg` ..., in a folder or in oxbuild_images.tgz.

There is no published split: all are test. In the splits `deepgin`, test is 523 of them, drawn by a digest of their
names among the files under the root, and the others are `rest`: DeepGIN was measured on 523 random ones, and its list
was not published.
"""

from collections.abc import Iterator
from typing import Final

from pipelines.data.archive.file_lists import draw_subset
from pipelines.data.archive.tree import Archive, Tree
from pipelines.records import Photo

_FOLDER: Final = "oxbuild_images"
ARCHIVES: Final = (Archive("oxbuild_images", (_FOLDER,), below=_FOLDER),)


def list_oxford_buildings(tree: Tree, splits: str) -> Iterator[Photo]:
    """Yield the files of `oxbuild_images` where there is such a folder or archive, else all files under the root."""
    found = list(tree.files(tree.find_first(_FOLDER) or ""))
    names = [file.path.rpartition("/")[2] for file in found]
    test = draw_subset(523, names, "oxford-buildings", "deepgin") if splits == "deepgin" else frozenset(names)
    for file, name in zip(found, names, strict=True):
        yield file.as_photo("test" if name in test else "rest")
