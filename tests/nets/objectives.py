"""The smallest configuration of every objective, and what tests do with them: a step's inputs, outputs and totals."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nets import build_objective
from nets.baselines.edge import ECConfig
from nets.baselines.gated import GCConfig
from nets.baselines.objective import ATTENTION, ENCODER, BaselineObjectiveConfig
from nets.baselines.partial import PCConfig
from nets.distill.guidance import GuidanceConfig
from nets.distill.network import DistillConfig
from nets.distill.objective import VARIANTS, DistillObjectiveConfig, variant
from nets.mhtma.critic import GlobalLocalCriticConfig
from nets.mhtma.network import MHTMAConfig
from nets.mhtma.objective import MHTMAObjectiveConfig
from nets.objective import BilevelPhase, Inputs, Objective, Outputs, Phase, Stage
from pipelines.training.inputs import SampleNoise
from pipelines.training.updates import weighted
from tests.making import train_recipe
from tests.weights import random_vgg

SMALL_MHTMA = MHTMAObjectiveConfig(
    MHTMAConfig(8, dilations=(2,)), GlobalLocalCriticConfig(32, 16, width=4, num_global=2, num_local=2, num_features=32)
)
SMALL_DISTILL = DistillObjectiveConfig(
    DistillConfig(8, 6, (1, 1, 1), 1), GuidanceConfig(auxiliary_images=16), style_weight=0.0, confidence_px=9
)


def _briefly(guidance: GuidanceConfig) -> GuidanceConfig:
    return replace(guidance, auxiliary_images=16)


CONFIGS: dict[str, Any] = {
    "deepgin": train_recipe().objective,
    "mhtma": SMALL_MHTMA,
    "mhtma-atma": replace(SMALL_MHTMA, network=replace(SMALL_MHTMA.network, attention="atma"), perceptual_on="both"),
    "mhtma-contextual": replace(SMALL_MHTMA, network=replace(SMALL_MHTMA.network, attention="contextual")),
    "mhtma-wgan": replace(SMALL_MHTMA, adversarial="wgan-gp", perceptual_on="final"),
    "mhtma-sketch": replace(
        SMALL_MHTMA,
        network=replace(SMALL_MHTMA.network, sketch=True, residual=True),
        perceptual_weight=0.0,
        warm_up_images=16,
    ),
    "distill": replace(SMALL_DISTILL, style_weight=150.0, blur="paper"),
    "distill-residual": replace(
        SMALL_DISTILL, network=replace(SMALL_DISTILL.network, residual=True, adding=False, key_pooling=(0, 2, 1))
    ),
    "gc": BaselineObjectiveConfig(GCConfig(4, (2,), residual=True)),
    "gc*": BaselineObjectiveConfig(GCConfig(4, (2,), completion=True), _briefly(ENCODER)),
    "gc-dagger": BaselineObjectiveConfig(GCConfig(4, (2,)), _briefly(ATTENTION)),
    "ec": BaselineObjectiveConfig(ECConfig(4, 1, residual=True)),
    "ec*": BaselineObjectiveConfig(ECConfig(4, 1, completion=True), _briefly(ENCODER)),
    "ec#": BaselineObjectiveConfig(ECConfig(4, 1, edges=False, completion=True, residual=True), _briefly(ENCODER)),
    "pc": BaselineObjectiveConfig(PCConfig((4, 8, 8), (5, 3, 3), residual=True)),
    "pc*": BaselineObjectiveConfig(PCConfig((4, 8, 8), (5, 3, 3), completion=True), _briefly(ENCODER)),
    **{f"distill-{name}": variant(name, SMALL_DISTILL) for name in VARIANTS},
}
"""By name of the paper and variant; each kind of objective at least once."""
WEIGHTS: dict[str, dict[str, Tensor]] = {"vgg16_features": random_vgg(16)}
"""Random state dicts of the right shapes, for objectives that want teachers."""


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
    planes = {"sketch": (torch.rand(2, 1, size_px, size_px, generator=generator) > 0.9).float()}
    return Inputs(image, mask, SampleNoise(seed, [(0, 0), (1, 0)]), planes)


def run(of: Objective, stage: int = -1) -> Outputs:
    """The outputs of one step of the stage."""
    return of.stages[stage].forward(inputs())


def phases(of: Objective) -> list[tuple[Stage, Phase | BilevelPhase]]:
    """All phases of all stages, with their stages."""
    return [(stage, phase) for stage in of.stages for phase in stage.phases]


def phase_of(of: Objective, name: str) -> Phase:
    """The ordinary phase of this name."""
    return next(p for _, p in phases(of) if p.name == name and isinstance(p, Phase))


def total(phase: Phase | BilevelPhase, outputs: Outputs) -> Tensor:
    """What the phase minimises."""
    return weighted(phase.terms(outputs), phase.weights)
