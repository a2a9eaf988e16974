"""The smallest configuration of every objective, and what tests do with them: a step's inputs, outputs and totals."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nets import build_objective
from nets.objective import BilevelPhase, Inputs, Objective, Outputs, Phase, Stage
from nets.spn.network import SPN, SPLConfig, SPNConfig
from nets.spn.objective import SPNObjectiveConfig
from nets.spn.targets import MapsTarget, PriorTarget, TResNetTarget
from pipelines.training.inputs import SampleNoise
from pipelines.training.updates import weighted
from tests.making import train_recipe
from tests.weights import random_network, random_tresnet, random_vgg

_DEEPGIN = train_recipe().objective
_ALL_LOSSES = replace(_DEEPGIN, perceptual_weight=0.05, style_weight=80.0)

TINY_SPN = SPNConfig(width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4)
TINY_SPL = SPLConfig(width=4, spade_width=4, num_spade_blocks=1, num_dense_blocks=1, num_dense_layers=1, growth=4)
RANDOM_TRESNET = TResNetTarget(weights=None, width=4)


def _deepgin(**changes: Any) -> Any:
    """DeepGIN with a variant of its network."""
    return replace(_DEEPGIN, network=replace(_DEEPGIN.network, **changes))


CONFIGS: dict[str, Any] = {
    "deepgin": _DEEPGIN,
    "deepgin-all-losses": _ALL_LOSSES,
    "deepgin-code": replace(_ALL_LOSSES, mode="code", vgg_size_px=32),
    "deepgin-coarse-only": _deepgin(block="standard", coarse_only=True),
    "deepgin-standard": _deepgin(block="standard", attention="none", back_projection=False),
    "deepgin-single": _deepgin(block="dilated", attention="single", back_projection=False),
    "deepgin-segmentation": _deepgin(segmentation=True, checkpointing=True),
    "spn": SPNObjectiveConfig(TINY_SPN, RANDOM_TRESNET, critic_width=4, prior_until_images=16),
    "spn-probabilistic": SPNObjectiveConfig(
        replace(TINY_SPN, probabilistic=True), RANDOM_TRESNET, critic_width=4, prior_until_images=16
    ),
    "spn-without-pretext": SPNObjectiveConfig(replace(TINY_SPN, fusion="concatenation"), None, critic_width=4),
    "spn-one-scale": SPNObjectiveConfig(
        replace(TINY_SPN, num_scales=1, residual=True), PriorTarget("spn", TINY_SPN), critic_width=4
    ),
    "spl": SPNObjectiveConfig(TINY_SPL, MapsTarget(), critic_width=4),
}
"""By name of the paper and variant; each kind of objective at least once."""
WEIGHTS: dict[str, dict[str, Tensor]] = {
    "spn": random_network(SPN(TINY_SPN)),
    "tresnet_l_openimages": random_tresnet(),
    "vgg19_features": random_vgg(19),
}
"""Random state dicts of the right shapes, for objectives that want teachers."""


def objective(name: str = "deepgin") -> Objective:
    """The objective of this name, always with the same fresh weights."""
    torch.manual_seed(0)
    return build_objective(CONFIGS[name], WEIGHTS)


def inputs(seed: int = 1, size_px: int = 32) -> Inputs:
    """Two random pictures with a box of hole."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(2, 1, size_px, size_px)
    mask[..., 8:20, 8:24] = 1
    image = torch.rand(2, 3, size_px, size_px, generator=generator)
    planes = {"segmentation": torch.rand(2, 3, size_px, size_px, generator=generator)}
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
