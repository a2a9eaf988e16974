"""A dataset of 4,000 photos: one photo less changes one shard, and every reader still finds the others.

With LACUNA_DATA the photos are those of CelebA, else they are generated.
"""

import os
from pathlib import Path

import pytest
import webdataset as wds

from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.edit import find_photo, remove_photos
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import Dataset
from tests.making import photo, shard_recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]

NUM_PHOTOS = 4000


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def write_photos(folder: Path) -> Path:
    """As many small JPEGs, of which no two are alike: every thousand has a height of its own."""
    folder.mkdir()
    for number in range(NUM_PHOTOS):
        photo(number % 1000, height=48 + number // 1000).save(folder / f"{number:06d}.jpg")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the photos, so that one can be taken out."""
    base = tmp_path_factory.mktemp("four-thousand")
    data = os.environ.get("LACUNA_DATA")
    photos = Path(data) / "celeba" / "img_align_celeba" if data else write_photos(base / "generated")
    (base / "in").mkdir()
    for path in sorted(photos.glob("*.jpg"))[:NUM_PHOTOS]:
        (base / "in" / path.name).symlink_to(path)
    return base / "in"


def plan(root: Path, out: Path) -> Plan:
    """A folder in some dozens of shards, a tenth held out."""
    size = sum(path.stat().st_size for path in root.iterdir())
    return Plan(str(root), str(out), shard_recipe(holdout=0.1, shard_bytes=1 << (size // 40).bit_length()), 0)


def keys_by_webdataset(dataset: Dataset) -> list[str]:
    """The keys that a plain webdataset loop finds."""
    urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards]
    return sorted(sample["__key__"] for sample in wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def keys_by_ray(dataset: Dataset) -> list[str]:
    """The keys that Ray's own reader finds."""
    import ray

    paths = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards]
    rows = ray.data.read_webdataset(paths, suffixes=["json"], decoder=None)
    return sorted(row["__key__"] for row in rows.take_all())


def test_one_photo_less_changes_one_shard_and_readers_agree(root: Path, tmp_path: Path) -> None:
    asked = plan(root, tmp_path / "out")
    whole = build_dataset(asked, silent)
    assert whole.commit["ledger"] == {
        "num_inputs": NUM_PHOTOS,
        "num_written": NUM_PHOTOS,
        "num_duplicates": 0,
        "num_rejected": 0,
        "num_removed": 0,
    }
    keys = keys_by_webdataset(whole)
    assert len(keys) == len(set(keys)) == NUM_PHOTOS
    assert keys_by_ray(whole) == keys
    gone = keys[NUM_PHOTOS // 3]
    (place,) = find_photo(whole.uri, gone)
    fewer = remove_photos(whole.uri, [gone], silent)
    changed = {(s.split, s.number) for s in set(fewer.shards) ^ set(whole.shards)}
    assert len(whole.shards) >= 32
    assert len(changed) == 1
    assert {s.file for s in whole.shards} - {s.file for s in fewer.shards} == {place["shard"]}
    assert keys_by_webdataset(fewer) == keys_by_ray(fewer) == [key for key in keys if key != gone]
    assert verify_dataset(whole.uri)[1] == []
    (root / f"{gone}.jpg").unlink()
    again = build_dataset(Plan(str(root), str(tmp_path / "again"), asked.config, 0), silent)
    assert {s.sha256 for s in again.shards} == {s.sha256 for s in fewer.shards}
