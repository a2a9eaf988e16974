"""Other sizes of pictures and of what lies beside them: resized or padded."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_PX: Final = 64
"""Smaller photos are padded to this: below it some networks have features too small to be padded by reflection."""


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """C H W -> C h w, cubic and antialiased; the same tensor where nothing changes."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def resize_plane(plane: Tensor, size: tuple[int, ...]) -> Tensor:
    """Plane C H W -> C h w: thin strokes 1HW stay where it shrinks, colors of maps do not mix."""
    if tuple(plane.shape[1:]) == tuple(size):
        return plane
    if len(plane) == 1 and (size[0] < plane.shape[1] or size[1] < plane.shape[2]):
        return F.adaptive_max_pool2d(plane[None], size)[0]
    return F.interpolate(plane[None], size, mode="nearest-exact")[0]


@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def pad_to_multiple(x: Tensor, multiple: int, least: int) -> Tensor:
    """N C H W with its last row and column repeated until both sides are a multiple, and not below `least`."""
    height, width = x.shape[2], x.shape[3]
    below = (max(height, least) + multiple - 1) // multiple * multiple - height
    right = (max(width, least) + multiple - 1) // multiple * multiple - width
    return F.pad(x, [0, right, 0, below], mode="replicate")
