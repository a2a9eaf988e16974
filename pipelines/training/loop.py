"""The training loop: batches in, weights out, for every objective.

The networks run once per step; each phase of the stage turns their outputs into named scalars, from which
`updates.py` makes an optimizer step. The clock is photos seen.
"""

import logging
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from infra.world import World
from nets.objective import Stage
from pipelines.stream.batching import Stream
from pipelines.training.flops import Limit
from pipelines.training.loop import parts_of, to_inputs
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import TrainState
from pipelines.training.updates import Updater
from pipelines.training.flops import GPU_BUSY, USAGE, Usage

MEASURES: Final = ("images_per_second", "data_wait_share", "memory_gb", "num_workers", "flops_utilization", *USAGE)
"""What a point says of the machine; the rest is the same on any machine."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """Metrics at a clock, means over the photos since the point before and over ranks."""

    images_seen: int
    values: dict[str, float]
    unix_ms: int
    """When it was taken. Kept with it, so that a tracking server that is told twice sees the same point."""


def _nobody(_: int) -> None:
    """Hears of steps and does nothing."""


def train(
    recipe: TrainRecipe,
    state: TrainState,
    stream: Stream,
    world: World,
    *,
    until_images: int,
    observe: Callable[[Point], None],
    commit: Callable[[list[Point]], bool | None],
    tell: Callable[[str], None] = log.warning,
    alive: Callable[[int], None] = _nobody,
    num_loader_workers: int = 0,
    limit: Limit | None = None,
) -> None:
    """Train from the state's clock to `until_images`; `num_loader_workers` processes make batches, or this one if 0.

    On every rank `observe` gets each point of the curves, `tell` what the stream had to make good, and `commit` is
    called at every checkpoint's clock and at the end with the points since the last commit, and ends the training if it
    returns True; `alive` gets the clock before every step. With `limit` points say what share of the device's best
    arithmetic was used. Raises NonFiniteError before a bad update is made.
    """
    batches = stream.batches(state.images_seen, recipe.batch_size, world, num_loader_workers)
    updater = Updater(recipe, state, world)
    points: list[Point] = []
    meter = Meter(world, state.images_seen)
    while state.images_seen < until_images:
        alive(state.images_seen)
        with meter.waiting():
            batch = next(batches)
            parts = [to_inputs(part, recipe.seed, world.device) for part in parts_of(batch, recipe.grad_accumulation)]
        stage = state.objective.find_stage(state.images_seen)
        for terms in updater.step(stage, parts):
            meter.add(terms)
        for incident in batch.incidents:
            tell(incident)
        state.ledger.take(batch.keys, batch.positions)
        state.advance(recipe.batch_size)
        committing = state.images_seen % recipe.checkpoint_images == 0 or state.images_seen >= until_images
        if committing or state.images_seen % recipe.metric_images == 0:
            points.append(meter.point(state.images_seen))
            points[-1].values.update(_share(limit, stage, points[-1], world))
            observe(points[-1])
        if committing:
            if commit(points):
                return
            points, meter = [], Meter(world, state.images_seen)


def _share(limit: Limit | None, stage: Stage, point: Point, world: World) -> dict[str, float]:
    """Of the device's best, as the stage of the point's last step has it."""
    if limit is None:
        return {}
    return {"flops_utilization": limit.share(stage.name, point.values["images_per_second"] / world.size)}


class Meter:
    """Sums of what the steps since the last point gave, and of the time that they took."""

    def __init__(self, world: World, images_seen: int) -> None:
        self._world = world
        self._usage = Usage(world.device)
        self._reset(images_seen)

    def _reset(self, images_seen: int) -> None:
        self._since_images = images_seen
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._started, self._waited = time.monotonic(), 0.0

    def waiting(self) -> "_Waiting":
        """A block in which the loop waits for data."""
        return _Waiting(self)

    def add(self, terms: dict[str, Tensor]) -> None:
        """Takes the terms of one update."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + term
            self._counts[name] = self._counts.get(name, 0) + 1

    def wait(self, seconds: float) -> None:
        """Takes time that was spent waiting for data."""
        self._waited += seconds

    def point(self, images_seen: int) -> Point:
        """The means since the last point, over all ranks; starts anew."""
        elapsed = time.monotonic() - self._started
        names = sorted(self._sums)
        rows = [float(self._sums[name]) / self._counts[name] for name in names]
        local = {"data_wait_share": self._waited / elapsed, "memory_gb": _memory_gb(self._world), **self._usage.since()}
        means = torch.tensor([*rows, elapsed, *local.values()], dtype=torch.float64)
        self._world.average([means])
        values = dict(zip([*names, "seconds", *local], means.tolist(), strict=True))
        values["images_per_second"] = (images_seen - self._since_images) / values.pop("seconds")
        values["num_workers"] = float(self._world.size)
        if math.isnan(values.get(GPU_BUSY, 0.0)):
            del values[GPU_BUSY]
        self._reset(images_seen)
        return Point(images_seen, values, time.time_ns() // 1_000_000)


def _memory_gb(world: World) -> float:
    """The most that this process, or its part of the GPU, has held so far."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class _Waiting:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._meter.wait(time.monotonic() - self._since)
