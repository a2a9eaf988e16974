"""A dry run of a recipe, without numbers: finds what cannot run before any work, and not hours into it.

In: a recipe and the weights of its teachers. Out: how large its parts are. Each stage runs and each term is made, on
torch's meta device, which takes neither the memory nor the time of a real step.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from nets import build_objective
from nets.objective import BilevelPhase, Inputs, Objective, Stage, Weights
from pipelines.records import UsageError
from pipelines.stream.config import LARGE, StreamConfig
from pipelines.training.flops import count_step_operations
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import refuse_other_networks

_SAMPLES: Final = 2
_FLOAT_BYTES: Final = 4
_CHANNELS: Final = {"segmentation": 3, "edge": 1, "sketch": 1}


@dataclass(frozen=True)
class DryRun:
    """Sizes of a training in bytes of float32: half-width numbers and recomputation take less."""

    num_parameters: dict[str, int]
    """By network."""
    checkpoint_bytes: int
    """Weights, both moments of Adam, and averages of the generator if the recipe has them."""
    state_bytes: int
    """What a checkpoint holds, and gradients, in a worker's memory."""
    teacher_bytes: int
    sample_bytes: int
    """Tensors that backward needs for one masked sample, in the phase that needs the most."""
    stages: tuple["StageCost", ...]

    def compute_memory_bytes(self, num_samples: int, device: torch.device) -> int:
        """Bytes that rank 0 holds on the device at so many masked samples at a time.

        On a CPU they include the checkpoint that is being written.
        """
        writing = self.writing_bytes if device.type == "cpu" else 0
        return self.state_bytes + writing + self.teacher_bytes + num_samples * self.sample_bytes

    @property
    def writing_bytes(self) -> int:
        """Ordinary memory of rank 0 while a checkpoint is written: a copy of it, and its largest file once more."""
        return self.checkpoint_bytes + 2 * _FLOAT_BYTES * max(self.num_parameters.values())

    def count_photo_operations(self, num_masks: int) -> dict[str, float]:
        """Number of operations by stage for a photo with so many masks."""
        return {stage.name: stage.sample_operations * num_masks for stage in self.stages}

    def count_operations(self, images: int, num_masks: int) -> float:
        """Number of operations of a training up to this clock."""
        total, begun = 0.0, 0
        for stage in self.stages:
            end = images if stage.until_images is None else min(images, stage.until_images)
            total += max(0, end - begun) * num_masks * stage.sample_operations
            begun = max(begun, end)
        return total


@dataclass(frozen=True)
class StageCost:
    """Arithmetic of a stage."""

    name: str
    until_images: int | None
    sample_operations: float
    """Multiplications and additions of a step for one masked sample."""


def dry_run(recipe: TrainRecipe, weights: Weights) -> DryRun:
    """Run each stage without numbers; raises UsageError where one cannot run."""
    # Build the networks without memory.
    teachers = {name: {key: x.to("meta") for key, x in state.items()} for name, state in weights.items()}
    with torch.device("meta"):
        objective = build_objective(recipe.objective, teachers)
    refuse_other_networks(recipe, objective)
    if recipe.grad_accumulation > 1 and any(
        isinstance(p, BilevelPhase) for stage in objective.stages for p in stage.phases
    ):
        raise UsageError(
            f"recipe {recipe.name}: grad_accumulation is {recipe.grad_accumulation}: use 1 with a bilevel phase"
        )
    # Run the stages; keep what the largest needs.
    sample_bytes, costs, shapes = 0, list[StageCost](), _make_inputs(recipe.stream)
    networks = [*objective.networks.values(), *objective.teachers.values()]
    for stage in objective.stages:
        try:
            sample_bytes = max(sample_bytes, _run_stage(stage, shapes, _SavedTensors(networks)))
            operations = count_step_operations(stage, shapes, objective.networks, recipe.grad_accumulation) / _SAMPLES
            costs.append(StageCost(stage.name, stage.until_images, operations))
        except (RuntimeError, ValueError, KeyError, TypeError) as fault:
            raise UsageError(f"recipe {recipe.name}: its stage {stage.name!r} cannot run: {fault}") from None
    has_average = recipe.average_images is not None
    return _compute_sizes(objective, sample_bytes // _SAMPLES, tuple(costs), has_average=has_average)


def _compute_sizes(
    objective: Objective, sample_bytes: int, stages: tuple[StageCost, ...], *, has_average: bool
) -> DryRun:
    parameters = {name: sum(p.numel() for p in n.parameters()) for name, n in objective.networks.items()}
    moments = 2 * sum(parameters.values()) * _FLOAT_BYTES
    weights, teachers = (_count_bytes(networks.values()) for networks in (objective.networks, objective.teachers))
    checkpoint = weights + moments + has_average * _count_bytes([objective.networks["generator"]])
    return DryRun(parameters, checkpoint, checkpoint + moments // 2, teachers, sample_bytes, stages)


def _count_bytes(networks: Iterable[nn.Module]) -> int:
    """Bytes of parameters and buffers."""
    return sum(int(t.nbytes) for n in networks for t in n.state_dict().values())


class _SavedTensors:
    """The tensors that a phase saves for backward, each once, except weights, which are in memory anyway."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self._weights = {_get_storage_id(t) for n in networks for t in n.state_dict(keep_vars=True).values()}
        self._seen: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> Tensor:
        """Add a tensor, as autograd calls it."""
        if (key := _get_storage_id(tensor)) not in self._weights:
            self._seen[key] = tensor.untyped_storage()  # kept alive, so that its id is not used again
        return tensor

    def drain(self) -> int:
        """Bytes since the last call."""
        count = sum(int(storage.nbytes()) for storage in self._seen.values())
        self._seen.clear()
        return count


def _get_storage_id(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _run_stage(stage: Stage, inputs: Inputs, saved: _SavedTensors) -> int:
    """Run the networks and make each phase's terms; returns the bytes that the largest phase saves."""
    most = 0
    for phase in stage.phases:
        for part in (phase, phase.inner) if isinstance(phase, BilevelPhase) else (phase,):
            with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
                terms = part.terms(stage.forward(inputs)).keys()
            most = max(most, saved.drain())
            if terms != part.weights.keys():
                raise ValueError(f"phase {part.name!r} has terms {sorted(terms)}, weights of {sorted(part.weights)}")
    return most


def _make_inputs(stream: StreamConfig) -> Inputs:
    """Inputs of a step of two samples, on the meta device."""

    def make_plane(channels: int, size_px: int) -> Tensor:
        return torch.empty(_SAMPLES, channels, size_px, size_px, device="meta")

    planes = {name: make_plane(_CHANNELS[name], stream.size_px) for name in (*stream.planes, *stream.sketch_planes)}
    planes |= {LARGE: make_plane(3, stream.large_px)} if stream.large_px else {}
    return Inputs(make_plane(3, stream.size_px), make_plane(1, stream.size_px), _MetaNoise(), planes)


class _MetaNoise:
    """Noise of two samples, its shape alone."""

    def normal(self, _: str, *shape: int) -> Tensor:
        """2 x shape."""
        return torch.empty(_SAMPLES, *shape, device="meta")

    uniform = normal
