"""Any folder or archive of images: every file in it is an input, its first folder is its label."""

from collections.abc import Iterator

from pipelines.data.tree import Tree
from pipelines.records import Photo


def list_folder(tree: Tree, splits: str) -> Iterator[Photo]:
    """Every file under the root, split `train`; a held-out share is the recipe's business."""
    for found in tree.files():
        folder, slash, _ = found.path.partition("/")
        yield found.as_photo("train", folder if slash else None)
