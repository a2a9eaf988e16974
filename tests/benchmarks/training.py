"""What the training loop costs, on CPUs. `python -m tests.benchmarks.training`, on the faces under LACUNA_DATA.

overhead: a step of full-size DeepGIN and SPN, one photo on all cores, its batch and its point of the curves with it,
beside a plain loop of the same networks and losses, in turns.
checkpoint: the share of a small training's time that its checkpoints take, at the recipe's interval; by many of them.
scaling: photos a second of two workers beside one, the same photos for each, medians of five trainings; and of two
processes that train at the same time and exchange nothing, without Ray: what the machine lets two of them do.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import torch

from infra.world import World
from jobs.recipes import RECIPES
from nets.objective import BilevelPhase, Inputs
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.config import DatasetConfig
from pipelines.manifest import open_dataset
from pipelines.stream.batching import Stream
from pipelines.training.launcher import launch
from pipelines.training.loop import Point, train
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, claim_run
from pipelines.training.updates import sum_weighted
from pipelines.training.worker import run_rank
from tests.benchmarks.models import Trainee

FULL: Final = ("deepgin-celebahq", "spn-paris")
SMALL: Final = "deepgin-faces"
STEPS: Final = 3
TRAININGS: Final = 5


def plain_step(trainee: Trainee, optimizers: dict[str, torch.optim.Optimizer], inputs: Inputs) -> None:
    """What one would write for these networks alone: forward, losses, backward, optimizer."""
    outputs = trainee.stage.forward(inputs)
    for phase in trainee.stage.phases:
        assert not isinstance(phase, BilevelPhase)
        parameters = [p for name in phase.trains for p in trainee.state.objective.networks[name].parameters()]
        for parameter in parameters:
            parameter.grad = None
        sum_weighted(phase.terms(outputs), phase.weights).backward(inputs=parameters)  # type: ignore[no-untyped-call]
        for name in phase.trains:
            optimizers[name].step()


def seconds(work: Callable[[], object]) -> float:
    """One run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def overhead(name: str, data: str) -> None:
    """Steps of the whole loop on one photo of the data, each followed by one by hand; after one of each."""
    torch.set_num_threads(os.cpu_count() or 1)
    full = RECIPES[name]()
    stream = replace(full.stream, masks=full.stream.masks[:1])
    recipe = replace(full, stream=stream, batch_size=1, metric_images=1, checkpoint_images=STEPS + 1)
    trainee, by_hand = (Trainee(recipe, 1, 1, torch.device("cpu")) for _ in range(2))
    trainee.state.images_seen = start = begin_run(trainee)
    optimizers: dict[str, torch.optim.Optimizer] = dict(by_hand.state.optimizers)
    ours, plain, mark = [], [], [time.perf_counter()]

    def step_by_hand(_: Point) -> None:
        ours.append(time.perf_counter() - mark[0])
        plain.append(seconds(lambda: plain_step(by_hand, optimizers, by_hand.inputs)))
        mark[0] = time.perf_counter()

    train(
        recipe, trainee.state, Stream((open_dataset(data),), recipe.stream, 0), World(),
        until_images=start + STEPS + 1, observe=step_by_hand, commit=nobody,
    )  # fmt: skip
    medians = [statistics.median(times[1:]) for times in (ours, plain)]
    share = 100 * (medians[0] / medians[1] - 1)
    print(f"overhead   {name}: {medians[0]:.2f} s a step, by hand {medians[1]:.2f}, so {share:+.1f} % (target 5)")


def begin_run(trainee: Trainee) -> int:
    """The clock at which the stage that is measured begins."""
    stages = trainee.state.objective.stages
    ends = [0, *(stage.until_images or 0 for stage in stages)]
    return ends[[stage.name for stage in stages].index(trainee.stage.name)]


def faces(folder: Path) -> str:
    """The faces as a dataset."""
    root = Path(os.environ["LACUNA_DATA"]) / "celeba"
    recipe = DatasetConfig("celeba", holdout=0.1, mask_size_px=64, shard_bytes=4 << 20)
    return build_dataset(Plan(str(root), str(folder), recipe, 0), lambda *_: None).uri


def start_run(recipe: TrainRecipe, data: str, out: Path, images: int) -> TrainRun:
    """A run that has not begun."""
    return TrainRun(recipe, (data,), str(out), images, claim_run(recipe, (open_dataset(data),), str(out)), "")


def checkpoints(data: str, folder: Path) -> None:
    """Trainings with ten checkpoints and with one, in turns: what nine more take, of the steps beside them too."""
    recipe, images = RECIPES[SMALL](), 800
    times: dict[int, list[float]] = {images // 10: [], images: []}
    for number in range(3):
        for every, spent in times.items():
            run = start_run(replace(recipe, checkpoint_images=every), data, folder / f"{every}-{number}", images)
            spent.append(seconds(partial(run_rank, run, World(), nobody)))
    many, one = (statistics.median(spent) for spent in times.values())
    each, step_seconds = (many - one) / 9, one / images
    share = 100 * each / (each + step_seconds * recipe.checkpoint_images)
    print(
        f"checkpoint {SMALL}: {each:.2f} s every {recipe.checkpoint_images} photos, held-out photos filled and scored "
        f"in it: {share:.1f} % of the time (target 5)"
    )


def scaling(data: str, folder: Path) -> None:
    """Trainings on one and on two workers in turns."""
    ways: dict[str, Callable[[str, Path], float]] = {
        "one": partial(by_workers, 1),
        "two": partial(by_workers, 2),
        "apart": two_apart,
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(TRAININGS):
        for way, measure in ways.items():
            rates[way].append(measure(data, folder / f"{way}-{number}"))
    one, two, apart = (statistics.median(rates[way]) for way in ways)
    print(
        f"scaling    {SMALL}: {one:.1f} photos/s by one worker, {two:.1f} by two: {50 * two / one:.0f} % (target 85); "
        f"by two processes that exchange nothing {apart:.1f}: {50 * apart / one:.0f} %"
    )


def make_sized(workers: int, data: str, out: Path) -> TrainRun:
    """A training of 60 steps, each worker the same number of photos."""
    small = RECIPES[SMALL]()
    batch = small.batch_size * workers
    recipe = replace(small, batch_size=batch, metric_images=10 * batch, checkpoint_images=60 * batch)
    return start_run(recipe, data, out, 60 * batch)


def rate(run: TrainRun) -> float:
    """Photos a second."""
    return float(statistics.median(p["values"]["images_per_second"] for p in read_points(run.out)[1:]))


def by_workers(workers: int, data: str, out: Path) -> float:
    """Of so many workers by Ray."""
    run = make_sized(workers, data, out)
    launch(run, workers, lambda _: None, "cpu")
    return rate(run)


def two_apart(data: str, out: Path) -> float:
    """Of two processes together, each with a training of its own."""
    runs = [make_sized(1, data, out / side) for side in ("left", "right")]
    processes = [get_context("spawn").Process(target=run_rank, args=(run, World(), nobody)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(map(rate, runs))


def nobody(_: object) -> None:
    """Receive checkpoints."""


def main() -> None:
    """All three, with their targets."""
    with tempfile.TemporaryDirectory() as folder:
        data = faces(Path(folder) / "faces")
        scaling(data, Path(folder))
        checkpoints(data, Path(folder) / "checkpoints")
        for name in FULL:
            overhead(name, data)


if __name__ == "__main__":
    main()
