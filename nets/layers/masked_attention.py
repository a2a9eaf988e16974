"""Masked temperature attention over rows, in memory that grows with the number of rows and not with its square.

In: queries, keys, values, which keys are hidden, and temperatures. Out: a row for each query. A file of its own because
the matrix of scores never exists: blocks of queries are attended to in turn, and backward makes their scores anew. On a
CPU at the paper's size this takes 0.4 of the time of torch's fused attention, and about that of the whole matrix.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from nets.layers.precision import disable_autocast

_BLOCK: Final = 2**22
"""Scores that exist at a time: 16 MiB of float32."""
_GPU_BLOCK: Final = 2**26
"""The same on a GPU, which smaller ones would leave waiting: 256 MiB."""


def temperature_attention(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, temperature: Tensor, level: float
) -> Tensor:
    """softmax((Q K^T * (1 - 1 m^T) + level * 1 m^T) / tau) V, rows -> N Q E (MHTMA Eqs. 9-11).

    Queries N Q D, keys N K D, values N K E, hidden N K in {0, 1} with 1 = the score is `level`, temperature N, not 0.
    Where all keys are hidden they count alike. Once differentiable. A temperature below 0, as ATMA's may be, prefers
    the keys that are least alike; by Eq. 9 it would prefer the hidden ones to all others, so there (ours) the level
    keeps its sign.
    """
    masked = hidden[..., None]
    levels = (level * temperature.sign())[:, None, None].expand_as(query[..., :1])
    query = torch.cat([query, levels], dim=2) / temperature[:, None, None]
    key = torch.cat([key * (1 - masked), masked], dim=2)  # so that the product of rows is already the masked score
    if not torch.is_grad_enabled():
        return _mix(query, key, value)
    mixed: Tensor = _BlockwiseAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return mixed


def _mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T) V: N Q D, N K D, N K E -> N Q E, without autocast."""
    with disable_autocast(query):
        mixed: Tensor = _mix_blockwise(query, key, value, _GPU_BLOCK if query.is_cuda else _BLOCK)
    return mixed


# The number of blocks depends on the size, which a trace would keep.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _mix_blockwise(query: Tensor, key: Tensor, value: Tensor, most: int) -> Tensor:
    """As `_mix`, by blocks of queries.

    Results go into memory that is taken before the scores: kept between them they would leave the heap in pieces, and
    the peak of memory six times as high.
    """
    mixed = value.new_empty(query.shape[0], query.shape[1], value.shape[2])
    num_rows = max(1, most // (key.shape[0] * key.shape[1]))
    for start in range(0, query.shape[1], num_rows):
        rows = query[:, start : start + num_rows]
        mixed[:, start : start + num_rows] = torch.softmax(rows @ key.transpose(1, 2), dim=2) @ value
    return mixed


class _BlockwiseAttention(Function):
    """softmax(Q K^T) V with its gradient, by blocks of queries: N Q D, N K D, N K E -> N Q E, without autocast."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = _mix(query, key, value)
        ctx.save_for_backward(query, key, value, mixed)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, mixed = ctx.saved_tensors
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        common = (gradient * mixed).sum(dim=2, keepdim=True)  # what a softmax takes off the gradient of all scores
        with disable_autocast(query):
            parts = (_blocks(rows, key) for rows in (query, gradient, common, to_query))
            for q, g, c, into in zip(*parts, strict=True):
                shares = torch.softmax(q @ key.mT, dim=2)
                to_value.baddbmm_(shares.mT, g)
                to_scores = (g @ value.mT).sub_(c).mul_(shares)
                into.copy_(to_scores @ key)
                to_key.baddbmm_(to_scores.mT, q)
        return to_query, to_key, to_value


def _blocks(rows: Tensor, key: Tensor) -> tuple[Tensor, ...]:
    """N Q D in parts of so many queries that their scores fit in a block."""
    most = _GPU_BLOCK if rows.is_cuda else _BLOCK
    return torch.split(rows, max(1, most // (key.shape[0] * key.shape[1])), dim=1)
