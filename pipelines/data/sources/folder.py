"""Any folder of images: every file below it is an input, its first folder is its label."""

from collections.abc import Iterator

from infra import storage
from pipelines.records import Photo


def list_folder(root: str) -> Iterator[Photo]:
    """Every file under the root, split `train`; a held-out share is the recipe's business."""
    for path, size in storage.list_files(root):
        folder, slash, _ = path.partition("/")
        yield Photo(path, "train", folder if slash else None, size)
