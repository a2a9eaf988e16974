"""Loader processes and remote shards: speed beside a local disk, memory over an epoch, and what the probe foretells.

`python -m tests.benchmarks.loading`: the photos of `tests.benchmarks.stream`, by the clock on the wall, on a machine
that does nothing else. The S3 server is SeaweedFS on the same cores. Targets: first epoch from S3 at least 50 % of
local, later ones, from the cache, 95 %; a foretold rate within 20 % of the real one.
"""

import multiprocessing
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

from infra import storage
from infra.cache import Cache
from infra.cluster import connect_ray
from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.manifest import Dataset, open_dataset
from pipelines.stream.batching import Stream
from pipelines.stream.rate import count_needed_loaders, measure_loader_rates
from pipelines.stream.reading import ShardReader
from tests.benchmarks.stream import BATCH, CROPPED, NUM_PHOTOS, PLAIN, photos
from tests.s3 import bucket

STEPS = NUM_PHOTOS // BATCH
PASSES = 3
EPOCHS_LOADED = 6


def epoch_rate(stream: Stream, epoch: int) -> float:
    """Photos a second of an epoch, made by this process."""
    started = time.perf_counter()
    for _ in islice(stream.batches(epoch * NUM_PHOTOS, BATCH, World()), STEPS):
        pass
    return NUM_PHOTOS / (time.perf_counter() - started)


def measure_loaded_rate(stream: Stream, num_loader_workers: int, step_seconds: float = 0.0) -> float:
    """Photos a second of some epochs whose steps take so long, their processes running."""
    batches = stream.batches(0, BATCH, World(), num_loader_workers)
    for _ in islice(batches, STEPS):
        pass
    started = time.perf_counter()
    for _ in islice(batches, EPOCHS_LOADED * STEPS):
        time.sleep(step_seconds)
    return EPOCHS_LOADED * NUM_PHOTOS / (time.perf_counter() - started)


def remote(dataset: Dataset, folder: Path) -> None:
    """A line for S3 beside the local disk: first epoch, from the store, and second, from the cache; in turn."""
    (folder / "store").mkdir()
    with bucket(folder / "store", "photos") as uri:
        for name, _ in storage.list_files(dataset.uri):
            storage.publish(storage.join(uri, "data", name), storage.read_bytes(storage.join(dataset.uri, name)))
        there = open_dataset(storage.join(uri, "data"))
        rates: dict[str, float] = {}
        for number in range(PASSES):
            far = Stream((there,), PLAIN, 0)
            far.reader = ShardReader((there,), "train", Cache(folder / f"cache-{number}", 1 << 40))
            near = Stream((dataset,), PLAIN, 0)
            for what, stream, epoch in (("local", near, 0), ("first", far, 0), ("later", far, 1), ("local", near, 1)):
                rates[what] = max(rates.get(what, 0.0), epoch_rate(stream, epoch))
            asked = far.reader.traffic.num_bytes
    needed = sum(shard.size_bytes for shard in dataset.split("train"))
    print(
        f"S3         local {rates['local']:.0f} photos/s, first epoch {rates['first']:.0f} "
        f"({rates['first'] / rates['local']:.0%}, target 50%), later ones {rates['later']:.0f} "
        f"({rates['later'] / rates['local']:.0%}, target 95%); asked for {asked / needed:.2f}x the shards' bytes"
    )


def memory(dataset: Dataset) -> None:
    """A line for the private memory of a loader process along two epochs."""
    batches, sizes = Stream((dataset,), CROPPED, 0).batches(0, BATCH, World(), 1), []
    for number, _ in enumerate(islice(batches, 2 * STEPS)):
        if number % 4 == 3:
            (loader,) = multiprocessing.active_children()
            sizes.append(private_megabytes(loader.pid or 0))
    print(f"memory     a loader process: {sizes[2]:.0f} MB at first, {max(sizes):.0f} at most, {sizes[-1]:.0f} at last")


def private_megabytes(process: int) -> float:
    """Memory of a process alone, without inherited and shared pages."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1000


def foretold(dataset: Dataset) -> None:
    """Lines for the probe's word: the rates of loaders, and that a step needs as many as it says and no more."""
    stream = Stream((dataset,), PLAIN, 0)
    rates = measure_loader_rates(stream, BATCH, len(os.sched_getaffinity(0)), 6.0)
    for num_loader_workers, said in rates.items():
        real = measure_loaded_rate(stream, num_loader_workers)
        difference = f"{real / said - 1:+.0%}"
        print(f"predicted   {num_loader_workers} loader workers: {said:.0f} photos/s, real {real:.0f}, {difference}")
    for share in (0.6, 1.2):
        step = BATCH / (rates[1] * share)
        needed = count_needed_loaders(rates, BATCH, step) or max(rates)
        real = measure_loaded_rate(stream, needed, step)
        print(f"foretold   a step of {step * 1000:.0f} ms needs {needed}: at {real * step / BATCH:.0%} of its speed")


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = DatasetConfig("folder", shard_bytes=8 << 20)
        with connect_ray():
            dataset = build_dataset(Plan(str(photos(folder / "photos")), f"{name}/data", recipe, 0), lambda *_: None)
        memory(dataset)
        foretold(dataset)
        remote(dataset, folder)


if __name__ == "__main__":
    main()
