"""Windows around the holes of a photo: which of them are filled together, and how much of the photo goes with them.

In: a mask HW, 1 = hole. Out: windows in pixels of the photo.
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
_MAX_PIECES: Final = 16
"""Pieces after cuts, at most: each window takes time."""
_THIN: Final = 0.5
"""Holes that cover less than this share of their box are cut in two where their window would be reduced."""


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
    """Pixels of the window that are theirs, bool HW; other holes may lie in the window, too."""
    round: int
    """Groups whose boxes meet are of different rounds, so that later ones go on with what earlier ones made."""


@dataclass(frozen=True)
class Piece:
    """Holes and the box around them."""

    box: Window
    holes: Tensor
    """Bool HW."""

    @property
    def side(self) -> int:
        """The longer side of the box."""
        return max(self.box.height, self.box.width)

    def is_thin(self) -> bool:
        """Whether the holes cover little of their box."""
        return int(self.holes.count_nonzero()) < _THIN * self.holes.numel()


def group_holes(mask: Tensor, size_px: int, context: float) -> list[Group]:
    """Groups of the holes of a mask uint8 HW, by rounds: near ones are together, at most 64, each hole pixel is in one.

    A window is `context` times as long as its holes' box, square and at least `size_px` long as far as the photo goes.
    What is long and thin is cut, so that windows are not much longer than their holes are thick.
    """
    height, width = mask.shape
    cell = max(1, size_px // _CELLS_OF_A_SIDE, -(-max(height, width) // _MAX_CELLS))
    labels = _label(_shrink(mask, cell))
    while len(numbers := torch.unique(labels[labels > 0])) > _MAX_GROUPS:
        cell *= 2
        labels = _label(_shrink(mask, cell))
    whole: list[Piece] = []
    thin = [_cut_piece(mask, labels == number, cell) for number in numbers]
    while thin:
        piece = thin.pop(max(range(len(thin)), key=lambda at: thin[at].side))
        full = len(thin) + len(whole) + 2 > _MAX_PIECES
        if full or context * piece.side <= size_px or not piece.is_thin():
            whole.append(piece)
        else:
            thin += _halve(piece)
    groups: list[Group] = []
    for piece, turn in zip(whole, _assign_rounds([piece.box for piece in whole]), strict=True):
        window = _place_window(piece.box, mask.shape, size_px, context)
        groups.append(Group(window, _place_holes(piece, window), turn))
    return sorted(groups, key=lambda group: (group.round, group.window.top, group.window.left))


def _halve(piece: Piece) -> list[Piece]:
    """Two pieces of one, cut across its longer side in the middle half, where thin and near the middle."""
    axis = int(piece.box.width > piece.box.height)
    apart = torch.arange(piece.side, device=piece.holes.device).sub(piece.side // 2).abs()
    counts = piece.holes.sum(1 - axis) * (piece.side + apart)
    least = piece.side // 4
    at = max(1, least + int(counts[least : piece.side - least].argmin()))
    halves = piece.holes.tensor_split([at], dim=axis)
    starts = (0, 0), (at, 0) if axis == 0 else (0, at)
    return [
        _crop(half, piece.box.top + top, piece.box.left + left)
        for half, (top, left) in zip(halves, starts, strict=True)
    ]


def _crop(holes: Tensor, top: int, left: int) -> Piece:
    """Piece of bool HW, whose first pixel is at this place of the photo, cut to the box of its true pixels."""
    bounds = Window(*_find_bounds(holes))
    return Piece(Window(top + bounds.top, left + bounds.left, bounds.height, bounds.width), holes[bounds.place])


def _assign_rounds(boxes: list[Window]) -> list[int]:
    """For each box the first round in which none is that meets it."""
    rounds: list[int] = []
    for number, box in enumerate(boxes):
        taken = {turn for other, turn in zip(boxes[:number], rounds, strict=True) if _is_touching(box, other)}
        rounds.append(min(set(range(len(taken) + 1)) - taken))
    return rounds


def _is_touching(one: Window, other: Window) -> bool:
    """Whether no pixel is between two boxes."""
    return (
        one.top <= other.top + other.height
        and other.top <= one.top + one.height
        and one.left <= other.left + other.width
        and other.left <= one.left + one.width
    )


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


def _cut_piece(mask: Tensor, cells: Tensor, cell: int) -> Piece:
    """The holes in these cells bool hw."""
    place = _find_bounds(cells)
    near = mask[Window(*(at * cell for at in place)).place].ne(0)
    rows, columns = (torch.arange(length, device=mask.device) // cell for length in near.shape)
    near &= cells[Window(*place).place][rows][:, columns]
    return _crop(near, place[0] * cell, place[1] * cell)


def _place_holes(piece: Piece, window: Window) -> Tensor:
    """Pixels of the window that are the piece's, bool HW."""
    holes = piece.holes.new_zeros(window.height, window.width)
    inside = Window(piece.box.top - window.top, piece.box.left - window.left, piece.box.height, piece.box.width)
    holes[inside.place] = piece.holes
    return holes


def _find_bounds(holes: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height and width of the box around what is true, bool HW."""
    rows, columns = holes.any(1).nonzero()[:, 0], holes.any(0).nonzero()[:, 0]
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left


def _place_window(box: Window, size: tuple[int, ...], size_px: int, context: float) -> Window:
    """The window of the holes in this box, in a photo of this height and width."""
    side = max(size_px, round(context * max(box.height, box.width)))
    height, width = min(side, size[0]), min(side, size[1])
    top, left = box.top + box.height // 2 - height // 2, box.left + box.width // 2 - width // 2
    return Window(max(0, min(top, size[0] - height)), max(0, min(left, size[1] - width)), height, width)
