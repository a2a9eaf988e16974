"""Datasets in their published layouts, one module each; `DATASETS` names them.

In: a root URI and the name of a way to split. Out: a stream of `Photo`, one per file of the dataset, and of `Absent`,
in any order. A way to split that selects photos of a published part puts the others into the split `rest`, so that
every file stays on the ledger.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from pipelines.data.archive.sidecars import PLANES
from pipelines.data.archive.tree import Archive, Tree
from pipelines.data.sources import (
    ade20k,
    celeba,
    celebahq,
    ffhq,
    oxford_buildings,
    paris_streetview,
    places365,
    places365_easy,
)
from pipelines.data.sources.folder import list_folder
from pipelines.data.sources.packages import find_packages_root, list_packages
from pipelines.records import SPLITS, Absent, Photo, UsageError


@dataclass(frozen=True)
class Source:
    """A dataset's listing, ways to split, and published archives."""

    list_photos: Callable[[Tree, str], Iterator[Photo | Absent]]
    """Function of the tree and the name of a way to split."""
    splits: tuple[str, ...] = ("published",)
    """The first is the default."""
    archives: tuple[Archive, ...] = ()
    planes: tuple[str, ...] = ()
    """Pictures beside the photos that it supports."""
    default_root: Callable[[], str] | None = None
    """Function that finds the root if the user names none."""

    def list_items(self, root: str, splits: str | None, spool_to: str) -> Iterator[Photo | Absent]:
        """Photos and absent files under the root; archives that cannot be sought are spooled under `spool_to`.

        Raises UsageError for unknown splits, a root in another layout, and torn archives or lists.
        """
        splits = splits or self.splits[0]
        if splits not in self.splits:
            raise UsageError(f"unknown splits {splits!r}: this source has {', '.join(self.splits)}")
        return _refuse_other_splits(self.list_photos(Tree(root, self.archives, spool_to), splits))

    def list_archives(self, root: str) -> list[str]:
        """URIs of the archives that are read in place of folders: the root itself, or some under it."""
        return Tree(root, self.archives, "memory://unused").list_archives()


def _refuse_other_splits(items: Iterator[Photo | Absent]) -> Iterator[Photo | Absent]:
    """Yield the items; raises UsageError for a photo in a split that is none of SPLITS."""
    for item in items:
        if isinstance(item, Photo) and item.split not in SPLITS:
            raise UsageError(f"{item.path} is in the split {item.split!r}: use one of {', '.join(SPLITS)}")
        yield item


DATASETS: dict[str, Source] = {
    "ade20k-aim": Source(ade20k.list_ade20k, ("aim", "ade20k"), ade20k.ARCHIVES, PLANES),
    "celeba": Source(celeba.list_celeba, ("published", "first-12000-test"), celeba.ARCHIVES),
    "celebahq": Source(celebahq.list_celebahq, ("celeba", "spn", "deepgin", "mhtma", "lama"), celebahq.ARCHIVES),
    "ffhq": Source(ffhq.list_ffhq, ("published", "deepgin"), ffhq.ARCHIVES),
    "folder": Source(list_folder, planes=PLANES),
    "oxford-buildings": Source(
        oxford_buildings.list_oxford_buildings, ("published", "deepgin"), oxford_buildings.ARCHIVES
    ),
    "packages": Source(list_packages, default_root=find_packages_root),
    "paris-streetview": Source(paris_streetview.list_paris_streetview, archives=paris_streetview.ARCHIVES),
    "places2-128": Source(partial(places365.list_places365, places365.PLACES2_128)),
    "places365-easy": Source(places365_easy.list_places365_easy, places365.SPLITS, places365_easy.ARCHIVES),
    "places365-large": Source(
        partial(places365.list_places365, places365.LARGE), places365.SPLITS, places365.LARGE_ARCHIVES
    ),
    "places365-small": Source(
        partial(places365.list_places365, places365.SMALL), places365.SPLITS, places365.SMALL_ARCHIVES
    ),
}
