"""What the tests of the build share: builds by the small recipe, and what lies in a dataset afterwards."""

from pathlib import Path
from typing import Any

import webdataset as wds
from PIL import Image

from pipelines.data.build.dedup import find_duplicates, mark_duplicates, resolve_keys
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.build.write_shard import write_shard
from pipelines.data.commit.workspace import Layout, Plan
from pipelines.manifest import Dataset, read_table
from tests.making import shard_recipe


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def build_folder(root: Path, out: Path, seed: int = 0, **changes: Any) -> Dataset:
    """The dataset of a folder by the small recipe with some changes."""
    return build_dataset(Plan(str(root), str(out), shard_recipe(**changes), seed), silent)


def scan_and_resolve(plan: Plan, layout: Layout) -> None:
    """The steps of a build between its listing and its shards, in this process."""
    for task, count in (
        (scan_files, layout.num_scans),
        (resolve_keys, layout.num_key_buckets),
        (find_duplicates, layout.num_digest_buckets),
        (mark_duplicates, layout.num_key_buckets),
    ):
        for number in range(count):
            task(plan, layout, number)


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    """All rows of all tables."""
    rows = [read_table(dataset.uri, shard).to_pylist() for shard in dataset.shards]
    return [row | {"split": shard.split} for shard, table in zip(dataset.shards, rows, strict=True) for row in table]


def rows_by_source(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The row of every input by its path, which is there once."""
    rows = rows_of(dataset)
    assert len({row["source"] for row in rows}) == len(rows)
    return {row["source"]: row for row in rows}


def read_by_webdataset(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    """All samples of a split as plain webdataset gives them."""
    urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards if shard.split == split]
    return list(wds.WebDataset(urls, shardshuffle=False))


def save(picture: Image.Image, path: Path) -> None:
    """Saves a photo in a folder that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


MANY: dict[str, Any] = {"holdout": 0.25, "shard_bytes": 4000}
ODD_NAMES = (
    "dots.in.the.name.jpg",
    "two words.png",
    "ünïcödé/日本.jpg",
    "100%#?*[x]&=.png",
    ".hidden.jpg",
    "line\nbreak.png",
)
TOO_LONG = "l" * 210 + ".jpg"


def rows_in_this_process(plan: Plan) -> dict[str, dict[str, Any]]:
    """The row of every input by its path, by all steps of a build but its commit."""
    layout = list_source(plan)
    scan_and_resolve(plan, layout)
    shards = [(split, number) for split, count in layout.num_shards.items() for number in range(count)]
    tables = [read_table(plan.out, write_shard(plan, layout, *shard)[0]) for shard in shards]
    rows = [row for table in tables for row in table.to_pylist()]
    assert len({row["source"] for row in rows}) == len(rows) == layout.num_files
    return {row["source"]: row for row in rows}


def mask(height: int = 48, width: int = 40) -> Image.Image:
    """A white hole on black."""
    picture = Image.new("L", (width, height))
    picture.paste(255, (width // 4, height // 3, width // 2, height // 2))
    return picture
