"""Time and memory of the full models, a table row each. `python -m tests.benchmarks.models`, on a GPU if there is one.

On a CPU: a forward run and a step of one 256x256 picture on one core. On a GPU: steps of the recipe's own batch in each
precision, compiled or not, and how much of the time the GPU had work. A step is all phases of the training's longest
stage with their optimizers; the GPU's include the bilevel phase in one of its `every` steps, the CPU's leave it out.
Each model has a process of its own, so that the peak of memory is its own.
"""

import argparse
import math
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import torch

from infra.world import World
from jobs.recipes import RECIPES
from nets.objective import Inputs, Stage
from pipelines.noise import SampleNoise
from pipelines.training.precision import Precision, prepare_process
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import TrainState
from pipelines.training.updates import Updater
from tests.nets.configs import WEIGHTS

MODELS = (
    "deepgin-celebahq",
    "spn-paris",
    "spn-probabilistic-celebahq",
    "spl-paris",
    "mhtma-celebahq",
    "distill-places2",
)
"""A recipe of each full model: those on other datasets train the same one."""
WAYS: tuple[tuple[Precision, bool], ...] = (
    ("float32", False),
    ("tf32", False),
    ("bfloat16", False),
    ("bfloat16", True),
)
"""Precision, and whether the generator is compiled."""
SECONDS = 2.0
HEADS = {
    "cpu": "| recipe (CPU) | generator | forward | its peak | step | its peak |\n|---|--:|--:|--:|--:|--:|",
    "cuda": "| recipe | precision | photos x masks | photos/s | GPU busy | peak |\n|---|---|--:|--:|--:|--:|",
}


def inputs(num_photos: int, num_masks: int, size_px: int, device: torch.device) -> Inputs:
    """Random photos, each with so many square holes, and at twice the size for TResNet."""
    number, quarter = num_photos * num_masks, size_px // 4
    image, large = (torch.rand(number, 3, side, side, device=device) for side in (size_px, 2 * size_px))
    mask = torch.zeros(number, 1, size_px, size_px, device=device)
    mask[..., quarter:-quarter, quarter:-quarter] = 1
    samples = [(n, k) for n in range(num_photos) for k in range(num_masks)]
    channels_last = image.contiguous(memory_format=torch.channels_last)
    return Inputs(channels_last, mask, SampleNoise(0, samples, device), {"image_large": large})


def longest(stages: Sequence[Stage], images: int) -> Stage:
    """The stage that most of the photos are seen in."""
    ends = [images if stage.until_images is None else stage.until_images for stage in stages]
    lengths = [end - begin for begin, end in pairwise([0, *ends])]
    return stages[lengths.index(max(lengths))]


class Trainee:
    """A recipe in the middle of its longest stage."""

    def __init__(self, recipe: TrainRecipe, num_photos: int, num_masks: int, device: torch.device) -> None:
        prepare_process(recipe.precision, deterministic=False)
        self.state = TrainState(recipe, WEIGHTS, device)
        self.updater = Updater(recipe, self.state, World(device=device))
        self.stage = longest(self.state.objective.stages, recipe.images)
        self.inputs = inputs(num_photos, num_masks, recipe.stream.size_px, device)
        self.every = math.lcm(*(phase.every for phase in self.stage.phases))

    def step(self) -> None:
        """One step, the clock after it; waits for the GPU to start no more than one ahead."""
        for _ in self.updater.step(self.stage, [self.inputs]):
            pass
        self.state.advance(self.updater.recipe.batch_size)


def quickest(work: Callable[[], object], runs: int) -> float:
    """Seconds of the quickest of some runs, after one that does not count."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def cpu_row(name: str) -> str:
    """Forward and step of one picture on one core."""
    recipe = RECIPES[name]()
    trainee = Trainee(recipe, 1, 1, torch.device("cpu"))
    trainee.state.images_seen = recipe.batch_size  # a step in which no bilevel phase has its turn
    generator, step = trainee.state.objective.networks["generator"], trainee.inputs
    with torch.inference_mode():
        before, forward = peak_mb(), quickest(lambda: generator(step.image, step.mask), 3)
        forward_mb = peak_mb() - before
    learn = quickest(lambda: list(trainee.updater.step(trainee.stage, [step])), 1)
    count = sum(p.numel() for p in generator.parameters())
    figures = f"{count:,} | {forward:.2f} s | {forward_mb:.0f} MB | {learn:.2f} s | {peak_mb() - before:.0f} MB"
    return f"| {name} | {figures} |"


@contextmanager
def watch_gpu() -> Iterator[list[int]]:
    """Percentages of time in which the GPU had work, by NVML, while the block runs."""
    busy: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            busy.append(torch.cuda.utilization())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield busy
    finally:
        ended.set()
        thread.join()


def gpu_row(name: str, precision: Precision, compiled: bool) -> str:
    """Photos a second, the share of time with work, and the peak of memory, of the recipe's own batch."""
    plain = RECIPES[name]()
    recipe = replace(plain, precision=precision, compiled=compiled)
    num_photos, num_masks = recipe.batch_size, len(recipe.stream.masks)
    way = f"{precision}{', compiled' if compiled else ''}"
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trainee = Trainee(recipe, num_photos, num_masks, torch.device("cuda"))
    for _ in range(max(2, trainee.every)):
        trainee.step()
    torch.cuda.synchronize()
    started, steps = time.perf_counter(), 0
    with watch_gpu() as busy:
        while steps % trainee.every or time.perf_counter() - started < SECONDS:
            trainee.step()
            torch.cuda.synchronize()
            steps += 1
    rate = steps * num_photos / (time.perf_counter() - started)
    share = sum(busy) / max(1, len(busy))
    peak = torch.cuda.max_memory_allocated() / 1e9
    return f"| {name} | {way} | {num_photos} x {num_masks} | {rate:.1f} | {share:.0f} % | {peak:.1f} GB |"


def main() -> None:
    """All full models, or the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--not-compiled", action="store_true")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.recipe is None:
        print(HEADS[device], flush=True)
        for name in MODELS:
            subprocess.run([sys.executable, "-m", "tests.benchmarks.models", name, *sys.argv[1:]], check=False)
    elif device == "cpu":
        print(cpu_row(given.recipe), flush=True)
    else:
        for precision, compiled in WAYS:
            if not (compiled and given.not_compiled):
                print(gpu_row(given.recipe, precision, compiled), flush=True)


if __name__ == "__main__":
    main()
