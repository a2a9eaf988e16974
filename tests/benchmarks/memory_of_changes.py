"""How much memory it takes to remove a photo, merge layers, make a table again and name damage, by the size of a shard.

`python -m tests.benchmarks.memory_of_changes [MB ...]`: each task in a Ray worker of its own, above what that worker
holds after the same task on a few photos; target 100 MB whatever the size of the shard.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.cluster import connect_ray
from pipelines.data.build.pipeline import add_layer, build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.data.dataset import edit, rebuild_manifest, verify
from pipelines.manifest import Dataset, read_table
from tests.benchmarks.memory import alone, height_mb, photos, print_peaks


def build_layers(root: Path, late: Path, out: str, shard_bytes: int) -> Dataset:
    """The photos of the root in one shard, as far as they go into it, and a layer of some more."""
    recipe = DatasetConfig("folder", shard_bytes=shard_bytes)
    build_dataset(Plan(str(root), out, recipe, 0), _silent)
    return add_layer(Plan(str(late), out, recipe, 0), _silent)


def _silent(*_: object) -> None:
    """Progress that nobody watches."""


def remove(dataset: Dataset) -> object:
    """The first shard without its first photo."""
    shard = dataset.shards[0]
    key = next(row["key"] for row in read_table(dataset.uri, shard).slice(0, 1).to_pylist())
    return edit._write_without(dataset.only(shard), frozenset([key]))


def compact(dataset: Dataset) -> object:
    """All shards in one."""
    return edit._write_merged(dataset, "train", 0, 1)


def rebuild(dataset: Dataset) -> object:
    """The table of the first shard, from the shard alone."""
    shard = dataset.shards[0]
    return rebuild_manifest._with_table(
        dataset.uri, rebuild_manifest._whole_shard(dataset.uri, shard.file, shard.sha256), []
    )


def name_damage(dataset: Dataset) -> object:
    """What is damaged in the first shard, whose last bytes are others than they were, and its table is lost."""
    shard = dataset.shards[0]
    with (Path(dataset.uri) / shard.file).open("r+b") as stream:
        stream.seek(shard.size_bytes - 1)
        stream.write(b"x")
    (Path(dataset.uri) / shard.table).unlink(missing_ok=True)
    return verify._verify_shard(dataset.uri, shard)


TASKS: dict[str, Callable[[Dataset], object]] = {
    "remove": remove,
    "compact": compact,
    "rebuild": rebuild,
    "verify": name_damage,
}


def peak_mb(name: str, little: Dataset, dataset: Dataset) -> float:
    """Megabytes that the task needs at its height."""
    TASKS[name](little)
    return height_mb(TASKS[name], (dataset,))


def measure(folder: Path, megabytes: int) -> None:
    """A line for shards of this size."""
    root, late = photos(folder / "photos", megabytes << 20), photos(folder / "late", 1 << 20, first=10_000_000)
    few, later = photos(folder / "few", 1 << 20), photos(folder / "later", 1 << 18, first=10_000_000)
    dataset = build_layers(root, late, str(folder / "data"), 2 * megabytes << 20)
    peaks: dict[str, Any] = {}
    for name in TASKS:
        little = build_layers(few, later, str(folder / name), 2 * megabytes << 20)
        peaks[name] = alone(peak_mb, name, little, dataset)
    print_peaks(f"a shard of {dataset.shards[0].size_bytes >> 20} MB", peaks)


def main() -> None:
    """A line for each size."""
    with connect_ray():
        for megabytes in [int(word) for word in sys.argv[1:]] or [16, 256]:
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), megabytes)


if __name__ == "__main__":
    main()
