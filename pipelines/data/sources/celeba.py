"""CelebA as published: `img_align_celeba/000001.jpg` ... and the official `list_eval_partition.txt` beside it.

Partition 0 is train, 1 is val, 2 is test. A root may hold a part of the 202,599 files; files that the list does not
name are rejected.
"""

from collections.abc import Iterator
from typing import Final

from infra import storage
from pipelines.records import Photo, Refused

_SPLITS: Final = {"0": "train", "1": "val", "2": "test"}
_FOLDER: Final = "img_align_celeba"
_LIST: Final = "list_eval_partition.txt"


def list_celeba(root: str) -> Iterator[Photo]:
    """The files of `img_align_celeba` with their official split."""
    partitions = _read_partitions(root)
    for name, size in storage.list_files(storage.join(root, _FOLDER)):
        split = partitions.get(name)
        refusal = None if split else f"{_LIST} does not name it"
        yield Photo(f"{_FOLDER}/{name}", split or "train", None, size, refusal)


def _read_partitions(root: str) -> dict[str, str]:
    """File name -> split; some 20 MB for the whole list, the same however many photos are there."""
    for needed in (_LIST, _FOLDER):
        if not storage.exists(storage.join(root, needed)):
            raise Refused(f"no {needed} under {root}: --root must hold {_LIST} and the folder {_FOLDER} of CelebA")
    raw = storage.read_bytes(storage.join(root, _LIST))
    try:
        pairs = (line.split() for line in raw.decode().split("\n") if line.strip())
        return {name: _SPLITS[partition] for name, partition in pairs}
    except (ValueError, KeyError):
        raise Refused(f"{storage.join(root, _LIST)} is no partition list: expected lines `000001.jpg 0`") from None
