"""Networks: tensors in, tensors out.

Images come in as float32 N3HW in [0, 1] and masks as N1HW in {0, 1} with 1 = hole; each network maps them to the
range of its paper itself. Nothing here reads a file, touches the network or knows how many devices there are.
`NETWORKS` is the one table by which a checkpoint or a registered version finds the class of its generator again,
`OBJECTIVES` the one by which a recipe finds its learning step.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from nets.baselines.edge import EC, ECConfig
from nets.baselines.gated import GC, GCConfig
from nets.baselines.objective import BaselineObjectiveConfig, build_baseline_objective
from nets.baselines.partial import PC, PCConfig
from nets.deepgin.network import DeepGIN, DeepGINConfig
from nets.deepgin.objective import DeepGINObjectiveConfig, build_deepgin_objective
from nets.distill.network import DistillConfig, InpaintingNetwork
from nets.distill.objective import DistillObjectiveConfig, build_distill_objective
from nets.features import get_vgg_shapes
from nets.layers.convolution import lay_channels_last
from nets.mhtma.network import MHTMA, MHTMAConfig
from nets.mhtma.objective import MHTMAObjectiveConfig, build_mhtma_objective
from nets.objective import Objective, Weights
from nets.spn.network import SPL, SPN, SPLConfig, SPNConfig
from nets.spn.objective import SPNObjectiveConfig, build_spn_objective
from nets.spn.teacher import get_trunk_shapes


@dataclass(frozen=True)
class NetworkKind:
    """A generator's class and the class of its configuration."""

    network: Callable[[Any], nn.Module]
    config: Callable[..., Any]


NETWORKS: dict[str, NetworkKind] = {
    "deepgin": NetworkKind(DeepGIN, DeepGINConfig),
    "distill": NetworkKind(InpaintingNetwork, DistillConfig),
    "ec": NetworkKind(EC, ECConfig),
    "gc": NetworkKind(GC, GCConfig),
    "pc": NetworkKind(PC, PCConfig),
    "mhtma": NetworkKind(MHTMA, MHTMAConfig),
    "spl": NetworkKind(SPL, SPLConfig),
    "spn": NetworkKind(SPN, SPNConfig),
}

OBJECTIVES: dict[type, Callable[[Any, Weights], Objective]] = {
    DeepGINObjectiveConfig: build_deepgin_objective,
    DistillObjectiveConfig: build_distill_objective,
    BaselineObjectiveConfig: build_baseline_objective,
    MHTMAObjectiveConfig: build_mhtma_objective,
    SPNObjectiveConfig: build_spn_objective,
}
"""Each config has `needs_weights`, the names of the files whose state dicts the objective is given."""


TEACHER_SHAPES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "vgg16_features": partial(get_vgg_shapes, 16),
    "vgg19_features": partial(get_vgg_shapes, 19),
    "tresnet_l_openimages": get_trunk_shapes,
}
"""State dicts on torch's meta device, of published files that a user may not have yet."""


def build_network(description: dict[str, Any]) -> nn.Module:
    """`{"name": ..., "config": {...}}` -> the network with fresh weights; raises ValueError on an unknown name."""
    name = description.get("name")
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: known are {', '.join(sorted(NETWORKS))}")
    kind = NETWORKS[name]
    network = kind.network(kind.config(**description["config"]))
    lay_channels_last(network)
    return network


def describe_network(config: Any) -> dict[str, Any]:
    """The description of a network's configuration, from which `build_network` makes the same architecture again.

    Raises ValueError where no network has such a configuration.
    """
    for name, kind in NETWORKS.items():
        if isinstance(config, type(kind.config())):
            return {"name": name, "config": asdict(config)}
    raise ValueError(f"{type(config).__name__} configures no network: known are {', '.join(sorted(NETWORKS))}")


def build_objective(config: Any, weights: Weights) -> Objective:
    """The learning step of a configuration, its networks with fresh weights, its teachers with those that are given."""
    objective = OBJECTIVES[type(config)](config, weights)
    for network in objective.networks.values():
        lay_channels_last(network)
    for teacher in objective.teachers.values():
        lay_channels_last(teacher.requires_grad_(False).eval())
    return objective
