"""Datasets in the layout they are published in, one file each; `DATASETS` names them.

In: a root URI. Out: a stream of `Photo`, one per file of the dataset, in an order that does not matter to anybody.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.data.sources.celeba import list_celeba
from pipelines.data.sources.folder import list_folder
from pipelines.data.sources.packages import list_packages, packages_root
from pipelines.records import Photo


@dataclass(frozen=True)
class Source:
    """How a dataset is listed, and where it lies if the user names no root."""

    list_photos: Callable[[str], Iterator[Photo]]
    default_root: Callable[[], str] | None = None


DATASETS: dict[str, Source] = {
    "celeba": Source(list_celeba),
    "folder": Source(list_folder),
    "packages": Source(list_packages, packages_root),
}
