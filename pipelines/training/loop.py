"""The training loop: batches in, weights out, for every objective.

The networks run once per step; each phase of the stage turns their outputs into named scalars, from which
`updates.py` makes an optimizer step. The clock is images seen.
"""

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from infra.world import World
from nets.objective import Inputs, Stage
from pipelines.noise import SampleNoise
from pipelines.records import Batch
from pipelines.stream.batching import Stream
from pipelines.training.flops import GPU_BUSY, USAGE, DeviceFlops, Usage
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import TrainState
from pipelines.training.updates import Updater

MEASURES: Final = ("images_per_second", "data_wait_share", "memory_gb", "num_workers", "flops_utilization", *USAGE)
"""Values of a point that depend on the machine; the others are the same on any machine."""


@dataclass(frozen=True)
class Point:
    """Metrics at a clock, means over the photos since the point before and over ranks."""

    images_seen: int
    values: dict[str, float]
    unix_ms: int
    """Time at which it was measured. Kept with it, so that a tracking server gets the same point each time."""


class Callbacks(Protocol):
    """Calls that the loop makes on every rank."""

    def begin_step(self, images_seen: int) -> None:
        """Called with the clock before every step."""

    def observe(self, point: Point) -> None:
        """Called with each point of the curves."""

    def commit(self, points: list[Point]) -> bool:
        """Called at the clock of each checkpoint and at the end, with the points since the last call.

        The training ends where it returns True.
        """

    def report_incident(self, line: str) -> None:
        """Called with each thing that the stream had to make good."""


def train(
    recipe: TrainRecipe,
    state: TrainState,
    stream: Stream,
    world: World,
    callbacks: Callbacks,
    *,
    until_images: int,
    num_loader_workers: int = 0,
    flops: DeviceFlops | None = None,
) -> None:
    """Train from the state's clock to `until_images`; `num_loader_workers` processes make batches, or this one if 0.

    With `flops` points have the share of the device's best arithmetic that was used. Raises NonFiniteError before a bad
    update is made.
    """
    batches = stream.batches(state.images_seen, recipe.batch_size, world, num_loader_workers)
    updater, points, meter = Updater(recipe, state, world), list[Point](), Meter(world, state.images_seen)
    while state.images_seen < until_images:
        callbacks.begin_step(state.images_seen)
        # Wait for a batch and bring it to the device.
        with meter.measure_wait():
            batch = next(batches)
            parts = [
                to_inputs(part, recipe.seed, world.device) for part in split_batch(batch, recipe.grad_accumulation)
            ]
        # Update the networks.
        stage = state.objective.find_stage(state.images_seen)
        for terms in updater.step(stage, parts):
            meter.add(terms)
        for incident in batch.incidents:
            callbacks.report_incident(incident)
        state.ledger.add(batch.keys, batch.positions)
        state.advance(recipe.batch_size)
        # Measure and commit where it is time to.
        commits = state.images_seen % recipe.checkpoint_images == 0 or state.images_seen >= until_images
        if commits or state.images_seen % recipe.metric_images == 0:
            points.append(_make_point(meter, state.images_seen, stage, flops, world))
            callbacks.observe(points[-1])
        if commits:
            if callbacks.commit(points):
                return
            points, meter = [], Meter(world, state.images_seen)


def _make_point(meter: "Meter", images_seen: int, stage: Stage, flops: DeviceFlops | None, world: World) -> Point:
    """The meter's point; its utilization is computed as if all its steps were of this stage."""
    point = meter.make_point(images_seen)
    if flops is not None:
        speed = point.values["images_per_second"] / world.size
        point.values["flops_utilization"] = flops.compute_utilization(stage.name, speed)
    return point


class Meter:
    """Sums of the terms of the steps since the last point, and of the time that they took."""

    def __init__(self, world: World, images_seen: int) -> None:
        self._world = world
        self._usage = Usage(world.device)
        self._reset(images_seen)

    def _reset(self, images_seen: int) -> None:
        self._since_images = images_seen
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._started, self._waited = time.monotonic(), 0.0

    @contextmanager
    def measure_wait(self) -> Iterator[None]:
        """Count the time of a block as waiting for data."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - since

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of one update."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + term
            self._counts[name] = self._counts.get(name, 0) + 1

    def make_point(self, images_seen: int) -> Point:
        """Means since the last point, over all ranks; the sums begin again at zero."""
        # Average over ranks.
        elapsed = time.monotonic() - self._started
        names = sorted(self._sums)
        rows = [float(self._sums[name]) / self._counts[name] for name in names]
        local = {
            "data_wait_share": self._waited / elapsed,
            "memory_gb": _measure_memory_gb(self._world),
            **self._usage.measure(),
        }
        means = torch.tensor([*rows, elapsed, *local.values()], dtype=torch.float64)
        self._world.average([means])
        # Derive speeds; a GPU that does not report its use has no value.
        values = dict(zip([*names, "seconds", *local], means.tolist(), strict=True))
        values["images_per_second"] = (images_seen - self._since_images) / values.pop("seconds")
        values["num_workers"] = float(self._world.size)
        if math.isnan(values.get(GPU_BUSY, 0.0)):
            del values[GPU_BUSY]
        self._reset(images_seen)
        return Point(images_seen, values, time.time_ns() // 1_000_000)


def _measure_memory_gb(world: World) -> float:
    """Peak memory in GB of this process so far, or of its part of the GPU."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """A batch of N photos as `count` batches of N / count, in order."""
    size = len(batch.keys) // count
    parts = [slice(start, start + size) for start in range(0, size * count, size)]
    return [
        Batch(
            batch.keys[p], batch.positions[p], batch.image[p], batch.mask[p], {n: x[p] for n, x in batch.planes.items()}
        )
        for p in parts
    ]


def to_inputs(batch: Batch, seed: int, device: torch.device | str = "cpu") -> Inputs:
    """Image uint8 N3HW, masks NKHW and planes NCHW -> the same as float32 of N*K samples, channels last.

    They travel as bytes, a quarter of the floats, and become floats on the device. The noise belongs to the samples.
    """
    num_masks = batch.mask.shape[1]
    mask = batch.mask.to(device, non_blocking=True).float().flatten(0, 1).unsqueeze(1)
    samples = [(position, k) for position in batch.positions for k in range(num_masks)]
    return Inputs(
        _to_floats(batch.image, num_masks, device),
        mask.contiguous(memory_format=torch.channels_last),
        SampleNoise(seed, samples, device),
        {name: _to_floats(plane, num_masks, device) for name, plane in batch.planes.items()},
    )


def _to_floats(picture: Tensor, num_masks: int, device: torch.device | str) -> Tensor:
    """uint8 NCHW -> float32 (N*K)CHW in [0, 1], channels last."""
    levels = picture.to(device, non_blocking=True).float().div_(255).repeat_interleave(num_masks, dim=0)
    return levels.contiguous(memory_format=torch.channels_last)
