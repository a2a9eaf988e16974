"""Networks: tensors in, tensors out.

Images come in as float32 N3HW in [0, 1] and masks as N1HW in {0, 1} with 1 = hole; each network maps them to the
range of its paper itself. Nothing here reads a file, touches the network or knows how many devices there are.
`NETWORKS` is the one table by which a checkpoint or a registered version finds the class of its generator again.
"""

from dataclasses import asdict
from typing import Any

from torch import nn

from nets.deepgin.network import DeepGIN, DeepGINConfig

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {"deepgin": (DeepGIN, DeepGINConfig)}


def build_network(description: dict[str, Any]) -> nn.Module:
    """`{"name": ..., "config": {...}}` -> the network with fresh weights; raises ValueError on an unknown name."""
    name = description.get("name")
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: known are {', '.join(sorted(NETWORKS))}")
    network, config = NETWORKS[name]
    return network(config(**description["config"]))


def describe_network(name: str, network: nn.Module) -> dict[str, Any]:
    """The description from which `build_network` makes the same architecture again."""
    return {"name": name, "config": asdict(network.config)}  # type: ignore[call-overload]
