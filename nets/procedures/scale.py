"""Windows of any size brought to the network's size, and read there at places of the window.

In: a part of a photo and its hole. Out: the part in few pixels, whose known ones have nothing of the hole in them.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_KNOWN: Final = 0.5
"""A small pixel is known where at least this share of its weight is."""
_LONG_PX: Final = 2048
"""Longer windows are brought to half of this or more by means of blocks first."""


def scale_size(size: tuple[int, ...], size_px: int) -> tuple[int, int]:
    """Height and width of a part whose longer side is brought to `size_px`."""
    height, width = (max(1, round(length * size_px / max(size))) for length in size)
    return height, width


def reduce_known(levels: Tensor, hole: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Part uint8 HW3 and hole uint8 HW -> 3hw in [0, 1], 0 in the hole, and hole 1hw in {0, 1}.

    Means of known pixels alone, their weights normalized (Knutsson and Westin, CVPR 1993), antialiased.
    """
    if tuple(hole.shape) == size:
        mask = hole[None].float()
        return levels.permute(2, 0, 1).float() / 255 * (1 - mask), mask
    weighted = _average_blocks(levels, hole, max(1, max(hole.shape) // (_LONG_PX // 2)))
    weighted = F.interpolate(weighted[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    mask = (weighted[3:] < _KNOWN).float()
    return weighted[:3] / weighted[3:].clamp_min(_KNOWN) * (1 - mask), mask


def mirror_to_square(x: Tensor, size_px: int) -> Tensor:
    """C h w, at most `size_px` a side -> C S S, mirrored below and to the right."""
    rows, columns = (_mirror_positions(length, size_px, x.device) for length in x.shape[1:])
    return x[:, rows][:, :, columns]


def sample(small: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, ...]) -> Tensor:
    """C h w, seen as a picture of this height and width, at pixels of it, cubic: C and the shape of `rows`."""
    places = [(2 * at + 1) / length - 1 for at, length in zip((columns, rows), size[::-1], strict=True)]
    grid = torch.stack(places, dim=-1).reshape(1, 1, -1, 2)
    values = F.grid_sample(small[None], grid, mode="bicubic", padding_mode="border", align_corners=False)
    return values.reshape(len(small), *rows.shape)


def _average_blocks(levels: Tensor, hole: Tensor, block: int) -> Tensor:
    """Part uint8 HW3 and hole uint8 HW -> 4hw: means over blocks of what is known, in [0, 1], and how much that is."""
    strips = []
    for part, mask in zip(torch.split(levels, 64 * block), torch.split(hole, 64 * block), strict=True):
        known = 1 - mask[None].float()
        weighted = torch.cat([part.permute(2, 0, 1).float() / 255 * known, known])
        strips.append(F.avg_pool2d(weighted[None], block, ceil_mode=True)[0] if block > 1 else weighted)
    return torch.cat(strips, dim=1)


def _mirror_positions(length: int, size_px: int, device: torch.device) -> Tensor:
    """0, 1, ... length - 1, length - 1, ... 1, 0, 0, 1, ... : `size_px` positions."""
    there_and_back = torch.arange(size_px, device=device) % (2 * length)
    return torch.minimum(there_and_back, 2 * length - 1 - there_and_back)
