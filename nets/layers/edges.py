"""Where a picture is steep, by Sobel's filters.

In: pictures N3HW in [0, 1]. Out: maps N1HW. A file of its own because edges are a target of SPN and an input of EC.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA: Final = (0.299, 0.587, 0.114)


def grey(image: Tensor) -> Tensor:
    """N3HW -> N1HW, the luma of BT.601."""
    luma: Tensor = (image * _numbers(_LUMA, image).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return luma


def compute_squared_gradient(image: Tensor) -> Tensor:
    """N3HW in [0, 1] -> N1HW: squared length of the luma's gradient, 1 for a step from black to white."""
    across = torch.outer(_numbers((1.0, 2.0, 1.0), image), _numbers((-1.0, 0.0, 1.0), image)) / 4
    filters = torch.stack([across, across.t()]).unsqueeze(1)
    steps = F.conv2d(F.pad(grey(image), (1, 1, 1, 1), mode="replicate"), filters)
    return steps.square().sum(dim=1, keepdim=True)


# A trace would keep the device.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _numbers(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """Three numbers as a tensor of the type and on the device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)
