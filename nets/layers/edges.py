"""Steepness of pictures, by Sobel's filters.

In: pictures N3HW in [0, 1]. Out: maps N1HW.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA: Final = (0.299, 0.587, 0.114)


def to_luma(image: Tensor) -> Tensor:
    """Convert N3HW to N1HW, the luma of BT.601."""
    luma: Tensor = (image * _to_tensor(_LUMA, image).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return luma


def compute_squared_gradient(image: Tensor) -> Tensor:
    """Compute the squared length of the luma's gradient, N3HW in [0, 1] -> N1HW; 1 for a step from black to white."""
    across = torch.outer(_to_tensor((1.0, 2.0, 1.0), image), _to_tensor((-1.0, 0.0, 1.0), image)) / 4
    filters = torch.stack([across, across.t()]).unsqueeze(1)
    steps = F.conv2d(F.pad(to_luma(image), (1, 1, 1, 1), mode="replicate"), filters)
    return steps.square().sum(dim=1, keepdim=True)


# Tracing would fix the device.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _to_tensor(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """Convert three numbers to a tensor of the type and on the device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)
