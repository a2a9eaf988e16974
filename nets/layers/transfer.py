"""Attention transfer: how far one attention's shares are from another's, without any matrix of shares.

In: queries and keys of student and teacher, as rows. Out: a distance for each sample. A file of its own because the
matrix would have (HW)^2 entries: here blocks of rows are compared in turn, and as a distance is one number, its
gradients are found on the same way; memory grows with the number of rows. Rows outside the hole cost nothing.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from nets.layers.precision import disable_autocast

_BLOCK: Final = 2**20
"""Shares that exist at a time: 4 MiB of float32."""
_GPU_BLOCK: Final = 2**25
"""The same on a GPU: 128 MiB."""


def attention_transfer(
    query: Tensor, key: Tensor, teacher_query: Tensor, teacher_key: Tensor, importance: Tensor, hole: Tensor
) -> Tensor:
    """sum over i in the hole of t_i * sum over j of (r'_ij - r_ij)^2, per sample: N (DGI Eq. 9).

    Queries N Q D, keys N K D, with r = softmax over keys of query * key; the teacher's likewise, with a D of its own,
    and without a gradient. `importance` t is N Q, `hole` N Q in {0, 1}. Once differentiable; float32 at least.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    rows = (t.to(dtype) for t in (query, key, teacher_query, teacher_key, importance))
    with disable_autocast(query):
        distance: Tensor = _Transfer.apply(*rows, hole)  # type: ignore[no-untyped-call]
    return distance


class _Transfer(Function):
    """The distance of each sample, and the gradients by query, key and importance of its sum."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, *others: Tensor) -> Tensor:
        teacher_query, teacher_key, importance, hole = others
        gradients = tuple(torch.zeros_like(t) for t in (query, key, importance))
        ctx.save_for_backward(*gradients)
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        if query.is_meta:  # shapes alone: no one knows which rows are in the hole
            return importance.sum(dim=1)
        for n, sample in enumerate(zip(query, key, teacher_query, teacher_key, importance, strict=True)):
            _compare(hole[n].nonzero()[:, 0], sample, tuple(g[n] for g in gradients), wanted)
        return (gradients[2] * importance).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        by_query, by_key, by_importance = ctx.saved_tensors
        each = gradient[:, None]
        return each[..., None] * by_query, each[..., None] * by_key, None, None, each * by_importance, None


def _compare(rows: Tensor, sample: tuple[Tensor, ...], gradients: tuple[Tensor, ...], wanted: bool) -> None:
    """Writes the gradients of one sample: by importance, which are the distances of rows, and by query and key."""
    query, key, teacher_query, teacher_key, importance = sample
    by_query, by_key, by_importance = gradients
    most = _GPU_BLOCK if rows.is_cuda else _BLOCK
    for block in torch.split(rows, max(1, most // len(key))):
        shares = torch.softmax(query[block] @ key.mT, dim=1)
        error = shares - torch.softmax(teacher_query[block] @ teacher_key.mT, dim=1)
        by_importance[block] = error.square().sum(dim=1)
        if wanted:
            to_scores = error.mul_(shares)  # of the square of the error; a softmax takes its sum off again
            to_scores.sub_(shares.mul_(to_scores.sum(dim=1, keepdim=True))).mul_(2 * importance[block, None])
            by_query[block] = to_scores @ key
            by_key.addmm_(to_scores.mT, query[block])
