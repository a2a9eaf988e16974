"""The training loop: batches in, weights out, for every objective.

The generator runs once per step; each phase of the stage turns its outputs into named scalars, and only this file asks
for gradients, averages them over ranks, clips them, steps and decides what is a fault. The clock is photos seen.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.world import World
from nets.objective import Outputs, Phase
from pipelines.records import Batch, Failed
from pipelines.stream.batching import Stream
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """Metrics at a clock, means over the photos since the point before and over ranks."""

    images_seen: int
    values: dict[str, float]


class NotFinite(Failed):
    """A loss term or a gradient that is no number: names rank, clock, phase and term, on every rank the same."""


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Image uint8 N3HW and masks NKHW -> float32 (N*K)3HW in [0, 1] and (N*K)1HW in {0, 1}, channels last.

    They travel as bytes, a quarter of the floats, and become floats on the device.
    """
    num_masks = batch.mask.shape[1]
    image = batch.image.to(device, non_blocking=True).float().div_(255).repeat_interleave(num_masks, dim=0)
    mask = batch.mask.to(device, non_blocking=True).float().flatten(0, 1).unsqueeze(1)
    return image.contiguous(memory_format=torch.channels_last), mask.contiguous(memory_format=torch.channels_last)


def train(
    recipe: TrainRecipe,
    state: TrainState,
    stream: Stream,
    world: World,
    *,
    until_images: int,
    observe: Callable[[Point], None],
    commit: Callable[[list[Point]], None],
    tell: Callable[[str], None] = log.warning,
    num_loaders: int = 0,
) -> None:
    """Trains from the state's clock to `until_images`, batches made by `num_loaders` processes or, if 0, by this one.

    On every rank `observe` gets each point of the curves, `tell` what the stream had to make good, and `commit` is
    called at every checkpoint's clock and at the end with the points since the last commit. Raises NotFinite before a
    bad update is made.
    """
    batches = stream.batches(state.images_seen, recipe.batch_size, world, num_loaders)
    points: list[Point] = []
    meter = Meter(world, state.images_seen)
    while state.images_seen < until_images:
        with meter.waiting():
            batch = next(batches)
            image, mask = to_tensors(batch)
        outputs = state.objective.forward(image, mask)
        stage = state.objective.stage_at(state.images_seen)
        step = state.images_seen // recipe.batch_size
        for phase in (p for p in stage.phases if step % p.every == 0):
            meter.add(update(phase, outputs, recipe, state, world))
        for incident in batch.incidents:
            tell(incident)
        state.images_seen += recipe.batch_size
        committing = state.images_seen % recipe.checkpoint_images == 0 or state.images_seen >= until_images
        if committing or state.images_seen % recipe.metric_images == 0:
            points.append(meter.point(state.images_seen))
            observe(points[-1])
        if committing:
            commit(points)
            points, meter = [], Meter(world, state.images_seen)


def update(phase: Phase, outputs: Outputs, recipe: TrainRecipe, state: TrainState, world: World) -> dict[str, Tensor]:
    """One optimiser update of the phase's networks from the step's outputs; returns its terms, detached."""
    terms = phase.terms(outputs)
    total = torch.stack([phase.weights[name] * term for name, term in terms.items()]).sum()
    parameters = [p for name in phase.trains for p in state.objective.networks[name].parameters()]
    gradients = torch.autograd.grad(total, parameters)
    world.average(gradients)
    norm = torch.nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(norm)):
        raise NotFinite(_diagnosis(phase, terms, state.images_seen, world))
    scale = 1.0 if recipe.clip_norm is None else min(1.0, recipe.clip_norm / (float(norm) + 1e-6))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.mul_(scale)
    for name in phase.trains:
        optimiser, rate = state.optimisers[name], recipe.optimisers[name].learning_rate
        optimiser.param_groups[0]["lr"] = rate * recipe.learning_rate_factor(state.images_seen)
        optimiser.step()
    return {name: term.detach() for name, term in terms.items()} | {f"gradient_norm_{phase.name}": norm}


def _diagnosis(phase: Phase, terms: dict[str, Tensor], images_seen: int, world: World) -> str:
    """Every rank looks at the terms of all: only some have the fault, and one of them alone is heard."""
    faults = torch.zeros(world.size, len(terms), dtype=torch.float64)
    faults[world.rank] = torch.tensor([not bool(torch.isfinite(term)) for term in terms.values()])
    world.average([faults])
    names = list(terms)
    bad = [f"{names[term]} on rank {rank}" for rank, term in faults.nonzero().tolist()] or ["a gradient"]
    return (
        f"not finite: {', '.join(bad)}, in phase {phase.name!r} at {images_seen} images; this update was not made: "
        "start again from the last checkpoint with a smaller learning rate or a longer warm-up"
    )


class Meter:
    """Sums of what the steps since the last point gave, and of the time that they took."""

    def __init__(self, world: World, images_seen: int) -> None:
        self._world = world
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
        rows = [float(self._sums[name]) / self._counts[name] for name in names] + [elapsed, self._waited / elapsed]
        means = torch.tensor(rows, dtype=torch.float64)
        self._world.average([means])
        *values, seconds, wait_share = means.tolist()
        speed = {"images_per_second": (images_seen - self._since_images) / seconds, "data_wait_share": wait_share}
        self._reset(images_seen)
        return Point(images_seen, dict(zip(names, values, strict=True)) | speed)


class _Waiting:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._meter.wait(time.monotonic() - self._since)
