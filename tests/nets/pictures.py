"""Pictures with holes, and counts of parameters, for the tests of networks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def make_masked_pictures(size_px: int = 32, number: int = 2) -> tuple[Tensor, Tensor]:
    """Random pictures N3HW with a box of hole each, N1HW."""
    mask = torch.zeros(number, 1, size_px, size_px)
    mask[..., size_px // 4 : size_px // 2, size_px // 4 : 3 * size_px // 4] = 1
    return torch.rand(number, 3, size_px, size_px), mask


def num_parameters(build: Callable[[], nn.Module]) -> int:
    """Trainable parameters, counted without making them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters() if p.requires_grad)
