"""State dicts of the shapes of pretrained networks with random numbers, and the real files where there are some."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

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


def _random_convolution(index: int, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5
    weight, bias = torch.randn(shape, generator=generator) * scale, torch.randn(shape[0], generator=generator) * 0.1
    return {f"features.{index}.weight": weight, f"features.{index}.bias": bias}
