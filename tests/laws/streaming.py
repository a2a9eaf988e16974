"""A rank that only draws: in this process, or in one of its own that can be killed.

In: where a dataset is, from which position on, how many steps, by how many loader processes. Out: a line for each step,
the position that it starts at and a digest of what it holds.
"""

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from infra.settings import PROJECT_ROOT, apply_defaults
from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import Batch
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig
from tests.making import shard_recipe

BATCH: Final = 6
CONFIG: Final = StreamConfig(size_px=32, resize="random-square", mask_canvas_px=32, num_lanes=6, block_size=4)

Rank = subprocess.Popen[str]


def noise_dataset(folder: Path, count: int) -> Dataset:
    """Photos of noise, some 40 kB each, in shards of a few of the cache's pages."""
    (folder / "in").mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (120, 120, 3), np.uint8)
        cv2.imwrite(str(folder / "in" / f"{number:03d}.png"), noise)
    recipe = shard_recipe(holdout=0.0, shard_bytes=400_000)
    return build_dataset(Plan(str(folder / "in"), str(folder / "out"), recipe, seed=0), lambda *_: None)


def digest(batch: Batch) -> str:
    """SHA-256 of all that a training takes from a batch."""
    whole = hashlib.sha256(repr((batch.keys, batch.positions)).encode())
    whole.update(batch.image.numpy().tobytes())
    whole.update(batch.mask.numpy().tobytes())
    return whole.hexdigest()


def batches(
    uri: str, start: int, num_steps: int, num_loader_workers: int, world: World | None = None
) -> Iterator[Batch]:
    """So many steps of a fresh stream."""
    stream = Stream((open_dataset(uri),), CONFIG, seed=11)
    return islice(stream.batches(start, BATCH, world or World(), num_loader_workers), num_steps)


def lines(uri: str, num_steps: int) -> list[str]:
    """What a rank that nobody disturbs says of its steps."""
    return [f"{BATCH * n} {digest(batch)}" for n, batch in enumerate(batches(uri, 0, num_steps, 0))]


def start_rank(uri: str, said: Path, num_steps: int, num_loader_workers: int, world: World | None = None) -> Rank:
    """A rank that draws what is left of so many steps, as its file says, and adds to the file."""
    world = world or World()
    words = (uri, said, num_steps, num_loader_workers, world.rank, world.size)
    command = [sys.executable, "-m", "tests.laws.streaming", *map(str, words)]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True)


def said_by(said: Path) -> list[str]:
    """The lines so far; one that a kill has cut is none."""
    return said.read_text().split("\n")[:-1] if said.exists() else []


def _main(uri: str, said: str, num_steps: str, num_loader_workers: str, rank: str, size: str) -> None:
    apply_defaults()
    done = len(said_by(Path(said)))
    with Path(said).open("w" if not done else "a") as out:
        rest = batches(uri, done * BATCH, int(num_steps) - done, int(num_loader_workers), World(int(rank), int(size)))
        for number, batch in enumerate(rest, done):
            print(number * BATCH, digest(batch), file=out, flush=True)
            time.sleep(0.01)  # the step of a training, so that loaders are ahead


if __name__ == "__main__":
    _main(*sys.argv[1:])
