"""A recipe played through once without numbers: what cannot run is said before any work, and not hours into it.

In: a recipe and the weights of its teachers. Out: how large its parts are. Each stage runs and each term is made, on
torch's meta device, which takes neither the memory nor the time of the real thing.
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
class Rehearsal:
    """What a training will take, in bytes of float32: half-width numbers and recomputation take less."""

    num_parameters: dict[str, int]
    """By network."""
    checkpoint_bytes: int
    """Weights, both moments of Adam, and averages of the generator if they are taken."""
    state_bytes: int
    """The same, and gradients, in a worker's memory."""
    teacher_bytes: int
    sample_bytes: int
    """What backward needs of one masked sample, in the phase that needs the most."""
    stages: tuple["StageCost", ...]

    def memory_bytes(self, num_samples: int, device: torch.device) -> int:
        """What rank 0 holds there that takes so many masked samples at a time; on a CPU what it writes is there too."""
        writing = self.writing_bytes if device.type == "cpu" else 0
        return self.state_bytes + writing + self.teacher_bytes + num_samples * self.sample_bytes

    @property
    def writing_bytes(self) -> int:
        """In ordinary memory of rank 0 while a checkpoint is written: a copy of it, and its largest file once more."""
        return self.checkpoint_bytes + 2 * _FLOAT_BYTES * max(self.num_parameters.values())

    def photo_operations(self, num_masks: int) -> dict[str, float]:
        """By stage, of a photo that comes with so many masks."""
        return {stage.name: stage.sample_operations * num_masks for stage in self.stages}

    def operations(self, images: int, num_masks: int) -> float:
        """Of a training up to this clock."""
        total, begun = 0.0, 0
        for stage in self.stages:
            end = images if stage.until_images is None else min(images, stage.until_images)
            total += max(0, end - begun) * num_masks * stage.sample_operations
            begun = max(begun, end)
        return total


@dataclass(frozen=True)
class StageCost:
    """What a stage takes of a processor."""

    name: str
    until_images: int | None
    sample_operations: float
    """Multiplications and additions that a step makes for one masked sample."""


def rehearse(recipe: TrainRecipe, weights: Weights) -> Rehearsal:
    """Plays each stage; raises UsageError where one cannot run."""
    teachers = {name: {key: x.to("meta") for key, x in state.items()} for name, state in weights.items()}
    with torch.device("meta"):
        objective = build_objective(recipe.objective, teachers)
    refuse_other_networks(recipe, objective)
    if recipe.grad_accumulation > 1 and any(
        isinstance(p, BilevelPhase) for stage in objective.stages for p in stage.phases
    ):
        raise UsageError(
            f"recipe {recipe.name}: a bilevel phase takes a step whole, not in {recipe.grad_accumulation} parts"
        )
    kept, costs, shapes = 0, list[StageCost](), _shapes_of(recipe.stream)
    for stage in objective.stages:
        try:
            kept = max(kept, _play(stage, shapes, _Kept(_networks(objective))))
            operations = count_step_operations(stage, shapes, objective.networks, recipe.grad_accumulation) / _SAMPLES
            costs.append(StageCost(stage.name, stage.until_images, operations))
        except (RuntimeError, ValueError, KeyError, TypeError) as fault:
            raise UsageError(f"recipe {recipe.name}: its stage {stage.name!r} cannot run: {fault}") from None
    averaged = recipe.average_images is not None
    return _measured(objective, kept // _SAMPLES, tuple(costs), averaged=averaged)


def _measured(objective: Objective, sample_bytes: int, stages: tuple[StageCost, ...], *, averaged: bool) -> Rehearsal:
    parameters = {name: sum(p.numel() for p in n.parameters()) for name, n in objective.networks.items()}
    moments = 2 * sum(parameters.values()) * _FLOAT_BYTES
    weights, teachers = (_num_bytes(of.values()) for of in (objective.networks, objective.teachers))
    checkpoint = weights + moments + averaged * _num_bytes([objective.networks["generator"]])
    return Rehearsal(parameters, checkpoint, checkpoint + moments // 2, teachers, sample_bytes, stages)


def _num_bytes(networks: Iterable[nn.Module]) -> int:
    """Of parameters and buffers."""
    return sum(int(t.nbytes) for n in networks for t in n.state_dict().values())


def _networks(objective: Objective) -> list[nn.Module]:
    return [*objective.networks.values(), *objective.teachers.values()]


class _Kept:
    """The tensors that a phase keeps for backward, each once, but for the weights, which are there anyway."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self._weights = {_storage(t) for n in networks for t in n.state_dict(keep_vars=True).values()}
        self._seen: dict[int, Any] = {}

    def note(self, tensor: Tensor) -> Tensor:
        """Called with each, by autograd."""
        if (place := _storage(tensor)) not in self._weights:
            self._seen[place] = tensor.untyped_storage()  # held, so that its number is no other's
        return tensor

    def drain(self) -> int:
        """Bytes since the last call."""
        count = sum(int(storage.nbytes()) for storage in self._seen.values())
        self._seen.clear()
        return count


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _play(stage: Stage, inputs: Inputs, kept: _Kept) -> int:
    """Runs the networks, and makes each phase's terms; bytes that the largest phase keeps."""
    most = 0
    for phase in stage.phases:
        for played in (phase, phase.inner) if isinstance(phase, BilevelPhase) else (phase,):
            with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
                made = played.terms(stage.forward(inputs)).keys()
            most = max(most, kept.drain())
            if made != played.weights.keys():
                raise ValueError(f"phase {played.name!r} has terms {sorted(made)}, weights of {sorted(played.weights)}")
    return most


def _shapes_of(stream: StreamConfig) -> Inputs:
    """What a step of two samples is given."""

    def shape(channels: int, size_px: int) -> Tensor:
        return torch.empty(_SAMPLES, channels, size_px, size_px, device="meta")

    planes = {name: shape(_CHANNELS[name], stream.size_px) for name in (*stream.planes, *stream.sketch_planes)}
    planes |= {LARGE: shape(3, stream.large_px)} if stream.large_px else {}
    return Inputs(shape(3, stream.size_px), shape(1, stream.size_px), _NoNoise(), planes)


class _NoNoise:
    """Noise of two samples, its shape alone."""

    def normal(self, _: str, *shape: int) -> Tensor:
        """2 x shape."""
        return torch.empty(_SAMPLES, *shape, device="meta")

    uniform = normal
