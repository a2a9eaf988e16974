"""Windows of any size brought to the network's size and back.

In: a part of a photo 3hw in [0, 1] and its hole 1hw. Out: a square of the network's size whose upper left part shows it.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_KNOWN: Final = 0.5
"""A pixel is known where at least this share of its weight is known."""


def small_size(size: tuple[int, ...], size_px: int) -> tuple[int, int]:
    """Height and width of a part whose longer side is brought to `size_px`."""
    longer = max(size)
    height, width = (max(1, round(length * size_px / longer)) for length in size)
    return height, width


def reduce_known(image: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Image C H W and mask 1HW -> C h w and 1hw; hidden pixels have no part in what is known (Knutsson and Westin, 1993).

    Means are antialiased and weighted by what is known; where less than half of the weight is known there is a hole.
    """
    if tuple(image.shape[1:]) == size:
        return image * (1 - mask), mask
    known = 1 - mask
    weight, weighted = _resample(known, size), _resample(image * known, size)
    hole = (weight < _KNOWN).to(image)
    return weighted / weight.clamp_min(_KNOWN) * (1 - hole), hole


def mirror_to_square(x: Tensor, size_px: int) -> Tensor:
    """C h w, at most `size_px` a side -> C S S, mirrored below and to the right."""
    rows, columns = (_mirrored(length, size_px, x.device) for length in x.shape[1:])
    return x[:, rows][:, :, columns]


def enlarge(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """C h w -> C H W, cubic."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=tuple(size), mode="bicubic", align_corners=False, antialias=True)[0]


def _resample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """C H W -> C h w by triangular weights, none of which is below 0."""
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _mirrored(length: int, size_px: int, device: torch.device) -> Tensor:
    """0, 1, ... length - 1, length - 1, ... 1, 0, 0, 1, ... : `size_px` positions."""
    there_and_back = torch.arange(size_px, device=device) % (2 * length)
    return torch.minimum(there_and_back, 2 * length - 1 - there_and_back)
