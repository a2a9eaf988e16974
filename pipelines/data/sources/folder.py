"""Any folder or archive of images: every file in it is an input, its first folder is its label.

Maps beside a photo, `x_seg.png` and `x_edge.png` beside `x.jpg`, are planes of it and no inputs of their own.
"""

from collections.abc import Iterator

from pipelines.data.archive.tree import Tree
from pipelines.records import Photo


def list_folder(tree: Tree, splits: str) -> Iterator[Photo]:
    """Yield every file under the root, in the split `train`; the dataset config may hold out a share."""
    for found, planes in tree.pictures():
        folder, slash, _ = found.path.partition("/")
        yield found.as_photo("train", folder if slash else None, planes=planes)
