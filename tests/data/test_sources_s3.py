"""Sources on a real S3 server: folders and archives there are listed and read as on a local disk."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipelines.data.sources import DATASETS
from pipelines.records import Photo
from tests.data.trees import PACKERS, TREES, account, content, put, write_files, zip_bytes
from tests.s3 import bucket
from tests.sampling import sample_cases

pytestmark = pytest.mark.slow

BUCKET = "s3://sources"


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An S3 server with one empty bucket; this process's environment leads to it."""
    with bucket(tmp_path_factory.mktemp("s3"), "sources"):
        yield


SOURCES = ("ade20k-aim", "celeba", "folder", "places365-small")
ROOTS = [f"{source}{suffix}" for source in SOURCES for suffix in ("", ".tar", ".tgz", ".zip")]


@pytest.mark.parametrize("root", sample_cases(ROOTS, ("celeba", "folder.tar", "ade20k-aim.tgz", "places365-small.zip")))
def test_a_root_on_s3_is_as_good_as_a_local_one(root: str, tmp_path: Path) -> None:
    source, suffix = root.partition(".")[0], "".join(root.partition(".")[1:])
    as_folder = account(source, write_files(tmp_path, TREES[source]), None, "memory://never")
    root = f"{BUCKET}/{source}{suffix}"
    for path, data in TREES[source].items() if not suffix else ():
        put(f"{root}/{path}", data)
    if suffix:
        put(root, PACKERS[suffix](TREES[source]))
    assert account(source, root, None, f"{BUCKET}/spilled/{source}{suffix}") == as_folder


def test_a_zip_on_s3_is_spilled_through_large_reads() -> None:
    tree = {f"{number:04d}.jpg": content(f"{number:04d}", 9_000) for number in range(3_000)}
    root = put(f"{BUCKET}/large.zip", zip_bytes(tree))
    photos = list(DATASETS["folder"].listed(root, None, f"{BUCKET}/spilled/large"))
    places = [photo.place for photo in photos if isinstance(photo, Photo) and photo.place is not None]
    assert sum(place.stored_bytes for place in places) == 27_000_000
    assert {place.container for place in places} == {f"{BUCKET}/spilled/large/000000"}
    assert fsspec.filesystem("s3").size("sources/spilled/large/000000") == 27_000_000
