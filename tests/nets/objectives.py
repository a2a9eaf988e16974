"""What tests do with objectives: a step's inputs, outputs and totals."""

import torch
from torch import Tensor

from nets import build_objective
from nets.objective import BilevelPhase, Inputs, Objective, Outputs, Phase, Stage
from pipelines.noise import SampleNoise
from pipelines.training.updates import sum_weighted
from tests.nets.configs import CONFIGS, WEIGHTS


def objective(name: str = "deepgin") -> Objective:
    """The objective of this name, always with the same fresh weights."""
    torch.manual_seed(0)
    return build_objective(CONFIGS[name], WEIGHTS)


def inputs(seed: int = 1, size_px: int = 32) -> Inputs:
    """Two random pictures with a box of hole."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(2, 1, size_px, size_px)
    mask[..., 4:12, 4:14] = 1
    image = torch.rand(2, 3, size_px, size_px, generator=generator)
    planes = {
        "sketch": (torch.rand(2, 1, size_px, size_px, generator=generator) > 0.9).float(),
        "segmentation": torch.rand(2, 3, size_px, size_px, generator=generator),
    }
    return Inputs(image, mask, SampleNoise(seed, [(0, 0), (1, 0)]), planes)


def run(of: Objective, stage: int = -1) -> Outputs:
    """The outputs of one step of the stage."""
    return of.stages[stage].forward(inputs())


def phases(of: Objective) -> list[tuple[Stage, Phase | BilevelPhase]]:
    """All phases of all stages, with their stages."""
    return [(stage, phase) for stage in of.stages for phase in stage.phases]


def find_phase(of: Objective, name: str) -> Phase:
    """The ordinary phase of this name."""
    return next(p for _, p in phases(of) if p.name == name and isinstance(p, Phase))


def sum_terms(phase: Phase | BilevelPhase, outputs: Outputs) -> Tensor:
    """What the phase minimises."""
    return sum_weighted(phase.terms(outputs), phase.weights)
