"""State dicts of the shapes of pretrained networks with random numbers, and the real files where there are some."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nets.inception import FIDInception
from nets.spn.teacher import TResNetTrunk

REAL = pytest.mark.skipif("LACUNA_WEIGHTS" not in os.environ, reason="LACUNA_WEIGHTS names no folder of real weights")

_VGG = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def real_weights(name: str) -> dict[str, Tensor]:
    """The state dict of a real file; the test is skipped where there is none."""
    path = Path(os.environ["LACUNA_WEIGHTS"]) / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load_file(path)


@cache
def random_vgg(depth: int) -> dict[str, Tensor]:
    """VGG's convolutions in torchvision's layout, scaled so that maps neither vanish nor explode."""
    generator = torch.Generator().manual_seed(depth)
    state: dict[str, Tensor] = {}
    index, channels = 0, 3
    for count, width in zip(_VGG[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            state |= _random_convolution(index, (width, channels, 3, 3), generator)
            index, channels = index + 2, width
        index += 1
    return state


@cache
def random_alexnet() -> dict[str, Tensor]:
    """AlexNet's convolutions in torchvision's layout."""
    generator = torch.Generator().manual_seed(5)
    state: dict[str, Tensor] = {}
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    for index, shape in shapes.items():
        state |= _random_convolution(index, shape, generator)
    return state


@cache
def random_heads(*channels: int) -> dict[str, Tensor]:
    """Heads of LPIPS: weights from 0 to 1."""
    generator = torch.Generator().manual_seed(len(channels))
    return {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator) for k, c in enumerate(channels)}


def random_network(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state dict for this network, all its numbers normal and small."""
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(t.shape, generator=generator) * 0.1 for k, t in network.state_dict().items()}


@cache
def random_inception() -> dict[str, Tensor]:
    """FID's Inception network without its classifier, in the published layout, drawn key by key in order of keys."""
    generator = torch.Generator().manual_seed(0)
    shapes = {key: tensor.shape for key, tensor in FIDInception().state_dict().items()}
    state: dict[str, Tensor] = {}
    for key in sorted(shapes):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.long)
            continue
        numbers = torch.randn(shapes[key], generator=generator)
        if numbers.dim() > 1:
            state[key] = numbers * (2 / numbers[0].numel()) ** 0.5
        else:
            scale = {"running_var": numbers.abs() / 4 + 1, "weight": numbers / 8 + 1}
            state[key] = scale.get(key.rpartition(".")[2], numbers / 8)
    return state


@cache
def random_tresnet(width: int = 76) -> dict[str, Tensor]:
    """The published TResNet's trunk and a piece of what follows it; some scales are negative, variances are not."""
    state = random_network(TResNetTrunk(width))
    positive = {k: t.abs() + 0.5 for k, t in state.items() if k.endswith("running_var")}
    scales = {k: t + t.sign() for k, t in state.items() if k.endswith(".weight") and t.dim() == 1}
    published = {f"body.{key}": tensor for key, tensor in (state | positive | scales).items()}
    return published | {"head.fc.FC.weight": torch.ones(2)}


def _random_convolution(index: int, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5
    weight, bias = torch.randn(shape, generator=generator) * scale, torch.randn(shape[0], generator=generator) * 0.1
    return {f"features.{index}.weight": weight, f"features.{index}.bias": bias}
