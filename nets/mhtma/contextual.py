"""Contextual attention of DeepFillv2 (Yu et al., ICCV 2019; the row "w/ CA" of MHTMA's Table I).

In: features N C h w and the hole N1HW of the picture; h and w even. Out: features of the same shape, each 4x4 patch a
mixture of those that are wholly known. A file of its own because it shares no step with the attention over heads:
it matches at half the resolution, looks for neighbours that agree, has no parameters and one constant temperature.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.patches import unfold_patches
from nets.layers.precision import disable_autocast

TEMPERATURE: Final = 0.1
_LEAST_NORM: Final = 1e-4


class ContextualAttention(nn.Module):
    """Matches 3x3 patches at half resolution, fuses the scores, pastes 4x4 patches: N C h w -> N C h w.

    Scores of keys that touch the hole are 0 before the softmax and their shares 0 after it.
    """

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features N C h w and hole N1HW -> attended N C h w and the temperature 0.1, N1."""
        height, width = x.shape[2] // 2, x.shape[3] // 2
        with disable_autocast(x):
            query = unfold_patches(x[..., ::2, ::2].float(), 3, padding=1)
            scores = query @ F.normalize(query, dim=2, eps=_LEAST_NORM).transpose(1, 2)
            known = 1 - F.max_pool2d(F.interpolate(mask, size=(height, width), mode="nearest"), 3, 1, 1).flatten(2)
            shares = torch.softmax(fuse_scores(scores, height, width) * known / TEMPERATURE, dim=2) * known
            patches = F.unfold(x.float(), 4, padding=1, stride=2)
            pasted = F.fold(patches @ shares.transpose(1, 2), x.shape[2:], 4, padding=1, stride=2) / 4
        return pasted, torch.full_like(pasted[:, :1, 0, 0], TEMPERATURE)


def fuse_scores(scores: Tensor, height: int, width: int) -> Tensor:
    """N hw hw -> N hw hw: to a score those of the pairs of neighbours are added, in rows and then in columns.

    A pair's neighbours lie one step on for both; steps are taken through the map as one line, in either order.
    """
    in_rows = _with_neighbours(scores)
    return _turned(_with_neighbours(_turned(in_rows, height, width)), width, height)


def _with_neighbours(scores: Tensor) -> Tensor:
    """The 3x3 convolution with the identity as its kernel."""
    around = F.pad(scores, (1, 1, 1, 1))
    return scores + around[:, :-2, :-2] + around[:, 2:, 2:]


def _turned(scores: Tensor, height: int, width: int) -> Tensor:
    """Both sides' places from row by row to column by column."""
    grid = scores.view(-1, height, width, height, width)
    return grid.permute(0, 2, 1, 4, 3).reshape(scores.shape)
