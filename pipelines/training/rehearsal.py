"""A recipe played through once without numbers: what cannot run is said before any work, and not hours into it.

In: a recipe and the weights of its teachers. Out: its objective with shapes alone. Each stage runs and each term is
made, on torch's meta device, which takes neither the memory nor the time of the real thing.
"""

from typing import Final

import torch
from torch import Tensor

from nets import build_objective
from nets.objective import BilevelPhase, Inputs, Objective, Stage, Weights
from pipelines.records import Refused
from pipelines.stream.config import LARGE, StreamConfig
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import refuse_other_networks

_SAMPLES: Final = 2
_CHANNELS: Final = {"segmentation": 3, "edge": 1, "sketch": 1}


def rehearse(recipe: TrainRecipe, weights: Weights) -> Objective:
    """The recipe's networks and teachers with their shapes alone; raises Refused where a stage of it cannot run."""
    teachers = {name: {key: x.to("meta") for key, x in state.items()} for name, state in weights.items()}
    with torch.device("meta"):
        objective = build_objective(recipe.objective, teachers)
    refuse_other_networks(recipe, objective)
    for stage in objective.stages:
        try:
            _play(stage, _shapes_of(recipe.stream))
        except (RuntimeError, ValueError, KeyError, TypeError) as fault:
            raise Refused(f"recipe {recipe.name}: its stage {stage.name!r} cannot run: {fault}") from None
    return objective


def _play(stage: Stage, inputs: Inputs) -> None:
    """Runs the networks, and makes each phase's terms."""
    for phase in stage.phases:
        for played in (phase, phase.inner) if isinstance(phase, BilevelPhase) else (phase,):
            made = played.terms(stage.forward(inputs)).keys()
            if made != played.weights.keys():
                raise ValueError(f"phase {played.name!r} has terms {sorted(made)}, weights of {sorted(played.weights)}")


def _shapes_of(stream: StreamConfig) -> Inputs:
    """What a step of two samples is given."""

    def shape(channels: int, size_px: int) -> Tensor:
        return torch.empty(_SAMPLES, channels, size_px, size_px, device="meta")

    planes = {name: shape(_CHANNELS[name], stream.size_px) for name in (*stream.planes, *stream.drawn)}
    planes |= {LARGE: shape(3, stream.large_px)} if stream.large_px else {}
    return Inputs(shape(3, stream.size_px), shape(1, stream.size_px), _NoNoise(), planes)


class _NoNoise:
    """Noise of two samples, its shape alone."""

    def normal(self, _: str, *shape: int) -> Tensor:
        """2 x shape."""
        return torch.empty(_SAMPLES, *shape, device="meta")

    uniform = normal
