"""Windows around the holes of a photo: which of them are filled together, and how much of the photo goes with them.

In: a mask HW, 1 = hole. Out: windows in pixels of the photo. Apart from the filling because here only places count.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS_OF_A_SIDE: Final = 8
"""Cells of the grid on which holes are grouped, along a side of the network's size."""
_MAX_CELLS: Final = 512
"""Cells along the longer side of a photo, at most."""
_MAX_GROUPS: Final = 64


@dataclass(frozen=True)
class Window:
    """A rectangle of a photo, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True)
class Group:
    """Holes that are filled together."""

    window: Window
    holes: Tensor
    """Which pixels of the window are theirs, bool HW; other holes may lie in the window, too."""


def group_holes(mask: Tensor, size_px: int, context: float) -> list[Group]:
    """Groups of the holes of a mask uint8 HW: near ones are together, at most 64, each hole pixel is in one.

    A window is `context` times as long as its holes' box, square and at least `size_px` long as far as the photo goes.
    """
    height, width = mask.shape
    cell = max(1, size_px // _CELLS_OF_A_SIDE, -(-max(height, width) // _MAX_CELLS))
    labels = _label(_shrink(mask, cell))
    while len(numbers := torch.unique(labels[labels > 0])) > _MAX_GROUPS:
        cell *= 2
        labels = _label(_shrink(mask, cell))
    return [_group(mask, labels == number, cell, size_px, context) for number in numbers]


def _shrink(mask: Tensor, cell: int) -> Tensor:
    """Mask uint8 HW -> bool hw: cells that have a hole pixel."""
    rows = torch.stack([rows.any(0) for rows in torch.split(mask.ne(0), cell)])
    return torch.stack([columns.any(1) for columns in torch.split(rows, cell, 1)], dim=1)


def _label(cells: Tensor) -> Tensor:
    """Bool hw -> int64 hw: 0, or the number from 1 of the group to which the cell belongs.

    Cells with less than one empty cell between them are of one group. Every cell takes the largest number around it,
    and that of the cell whose number it has: so numbers run through a group in about the logarithm of its length.
    """
    height, width = cells.shape
    labels = torch.arange(1, cells.numel() + 1, device=cells.device).view(height, width) * cells
    while True:
        around = F.max_pool2d(labels[None].float(), 5, stride=1, padding=2)[0].long() * cells
        jumped = torch.cat([around.new_zeros(1), around.flatten()])[around]
        if torch.equal(jumped, labels):
            return labels
        labels = jumped


def _group(mask: Tensor, cells: Tensor, cell: int, size_px: int, context: float) -> Group:
    """The group of these cells bool hw."""
    place = _bounds(cells)
    near = mask[Window(*(at * cell for at in place)).place].ne(0)
    rows, columns = (torch.arange(length, device=mask.device) // cell for length in near.shape)
    near &= cells[Window(*place).place][rows][:, columns]
    top, left, height, width = _bounds(near)
    box = Window(place[0] * cell + top, place[1] * cell + left, height, width)
    window = _around(box, mask.shape, size_px, context)
    holes = near.new_zeros(window.height, window.width)
    inside = Window(box.top - window.top, box.left - window.left, height, width)
    holes[inside.place] = near[top : top + height, left : left + width]
    return Group(window, holes)


def _bounds(holes: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of the box around what is true, bool HW."""
    rows, columns = holes.any(1).nonzero()[:, 0], holes.any(0).nonzero()[:, 0]
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left


def _around(box: Window, size: tuple[int, ...], size_px: int, context: float) -> Window:
    """The window of the holes in this box, in a photo of this height and width."""
    side = max(size_px, round(context * max(box.height, box.width)))
    (top, height), (left, width) = (
        _span(start, length, min(side, whole))
        for start, length, whole in ((box.top, box.height, size[0]), (box.left, box.width, size[1]))
    )
    return Window(max(0, min(top, size[0] - height)), max(0, min(left, size[1] - width)), height, width)


def _span(start: int, length: int, side: int) -> tuple[int, int]:
    """Start and length of `side` pixels with the same middle."""
    return start + length // 2 - side // 2, side
