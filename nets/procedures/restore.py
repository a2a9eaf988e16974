"""A window's fill from the network's size back to the window's, with detail and without a seam.

In: a window of a photo, its hole and the fill at the network's size. Out: the window filled. Works tile by tile, so
that memory does not grow with the window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.procedures.detail import add_lacking_detail, find_sources, match_blocks
from nets.procedures.scale import sample

_TILE_PX: Final = 512
_LEVELS: Final = 5
"""Halvings of the pyramid that spreads what the small picture lacks at the hole's border, some 32 px into the hole."""
_MARGIN_PX: Final = 2 * 2**_LEVELS


@dataclass(frozen=True)
class Part:
    """A window of a photo and its fill at the network's size."""

    levels: Tensor
    """uint8 HW3."""
    hole: Tensor
    """uint8 HW, 1 = hole."""
    wanted: Tensor
    """Pixels of the hole that are to be filled, bool HW."""
    small: Tensor
    """The fill, 3hw in [0, 1], in its known pixels the reduced photo."""
    small_hole: Tensor
    """1hw in {0, 1}."""
    scale: int
    """The size of the small fill over the network's own."""


def restore(part: Part) -> Tensor:
    """The window with its wanted pixels filled, uint8 HW3."""
    matches = match_blocks(part.small, part.small_hole, part.scale)
    rich, strength = part.small, part.small_hole
    if matches is not None:
        rich, strength = add_lacking_detail(part.small, part.small_hole, matches)
    filled = part.levels.clone()
    for tile, core in _tiles(part.wanted):
        rows, columns = part.wanted[core].nonzero().unbind(1)
        colors = _spread_lacking(part, tile)[:, core[0].start - tile[0].start :, core[1].start - tile[1].start :]
        colors = colors[:, rows, columns]
        rows, columns = rows + core[0].start, columns + core[1].start
        colors = colors + sample(rich, rows, columns, part.hole.shape)
        if matches is not None and part.hole.shape != part.small.shape[1:]:
            strengths = sample(strength, rows, columns, part.hole.shape)
            for weight, *source in find_sources(matches, rows, columns, part.hole[None]):
                colors = colors + strengths * weight * _compute_difference(part, *source)
        filled[rows, columns] = colors.clamp(0, 1).mul(255).round().to(torch.uint8).mT
    return filled


def _compute_difference(part: Part, rows: Tensor, columns: Tensor) -> Tensor:
    """Difference of the photo and the small picture at these pixels: 3 and the shape of `rows`."""
    colors = part.levels[rows, columns].movedim(-1, 0).float() / 255
    return colors - sample(part.small, rows, columns, part.hole.shape)


def _spread_lacking(part: Part, tile: tuple[slice, slice]) -> Tensor:
    """Difference of known pixels of the tile and the small picture, spread into the hole: 3hw.

    So the fill meets the photo at the hole's border; deep in the hole nothing is added.
    """
    rows, columns = (torch.arange(axis.start, axis.stop, device=part.hole.device) for axis in tile)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    known = 1 - part.hole[tile][None].float()
    return spread(_compute_difference(part, *grid)[None] * known, known[None])[0]


def spread(known: Tensor, weight: Tensor, levels: int = _LEVELS) -> Tensor:
    """Values N C H W, 0 where unknown, and N1HW in {0, 1}, 1 where known -> N C H W, known ones as they are.

    Pull and push (Gortler et al., SIGGRAPH 1996, section 3.6.1) over so many halvings: what is farther from all that is
    known than the coarsest of them reaches becomes 0.
    """
    if not levels or max(known.shape[2:]) == 1:
        return known
    sums, shares = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (known, weight))
    certain = (4 * shares).clamp(max=1)
    above = spread(sums / shares.clamp_min(torch.finfo(known.dtype).tiny) * certain, certain, levels - 1)
    return known + F.interpolate(above, size=known.shape[2:], mode="bilinear", align_corners=False) * (1 - weight)


def _tiles(wanted: Tensor) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield places of tiles with wanted pixels: with margins, and without; they start at multiples of the coarsest."""
    height, width = wanted.shape
    for top in range(0, height, _TILE_PX):
        for left in range(0, width, _TILE_PX):
            core = slice(top, min(top + _TILE_PX, height)), slice(left, min(left + _TILE_PX, width))
            if wanted[core].any():
                ends = [min(axis.stop + _MARGIN_PX, length) for axis, length in zip(core, wanted.shape, strict=True)]
                yield (slice(max(0, top - _MARGIN_PX), ends[0]), slice(max(0, left - _MARGIN_PX), ends[1])), core
