"""The layers of DGI written as slowly and plainly as their formulas, to be differentiated as often as one likes."""

import torch
from torch import Tensor


def convolve_by_taps(x: Tensor, kernels: Tensor, offsets: Tensor) -> Tensor:
    """Eq. 6, tap by tap and corner by corner: N C H W, N K^2 H W, N 2K^2 H W -> N C H W."""
    height, width = x.shape[2:]
    taps = kernels.shape[1]
    side = round(taps**0.5)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    total = torch.zeros_like(x)
    for tap in range(taps):
        down = rows + tap // side - side // 2 + offsets[:, 2 * tap]
        right = columns + tap % side - side // 2 + offsets[:, 2 * tap + 1]
        total = total + kernels[:, tap, None] * _interpolate(x, down, right)
    return total


def _interpolate(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Bilinear values of N C H W at places NHW, 0 outside."""
    top, left = down.detach().floor().long(), right.detach().floor().long()
    value = torch.zeros_like(x)
    for row, by_row in ((top, top + 1 - down), (top + 1, down - top)):
        for column, by_column in ((left, left + 1 - right), (left + 1, right - left)):
            value = value + _gather(x, row, column) * (by_row * by_column)[:, None]
    return value


def _gather(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The pixels of N C H W at NHW places, 0 outside."""
    height, width = x.shape[2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)
    pixels = x.flatten(2).gather(2, index[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return pixels * inside[:, None]


def compare_whole_matrices(
    query: Tensor, key: Tensor, teacher_query: Tensor, teacher_key: Tensor, importance: Tensor, hole: Tensor
) -> Tensor:
    """Eq. 9 with whole matrices: N."""
    shares, taught = (torch.softmax(q @ k.mT, dim=2) for q, k in ((query, key), (teacher_query, teacher_key)))
    return ((shares - taught).square().sum(dim=2) * importance * hole).sum(dim=1)
