"""The meta-networks of DGI: what of the teacher's features the student should learn (sections 3.1 and 3.2).

In: features N C h w of the teacher. Out: transformed features, weights of channels, weights of positions. A file of its
own because they are trained by another phase than what they judge, and are not needed at inference. At width 128 and
three levels they have 132,483 parameters, and the alignment convolutions 524,544.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FIRST_TRUST: Final = 2.0
"""Bias of t: each position begins with the weight sigmoid(2) = 0.88."""


class ChannelImportance(nn.Module):
    """rho and phi of Eqs. 2 and 3: mean over positions, a linear layer, softmax; begins uniform. N C h w -> N C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """N C h w -> N C, at least 0, their sum 1; float32 at least."""
        scores = self.linear(features.mean(dim=(2, 3)))
        return F.softmax(scores, dim=1, dtype=torch.promote_types(scores.dtype, torch.float32))


class MetaNetworks(nn.Module):
    """gamma and rho of each level, phi of each but the first, t of each attention; those that are not asked for lack.

    `channels` are the encoder's, from the finest level on, `decoded` those of the features before each attention.
    """

    def __init__(
        self,
        channels: Sequence[int],
        decoded: Sequence[int] = (),
        *,
        cross_distillation: bool = True,
        self_distillation: bool = True,
    ) -> None:
        super().__init__()
        taught, deeper = (channels if cross_distillation else ()), (channels[1:] if self_distillation else ())
        self.gamma = nn.ModuleList(_identity(c) for c in taught)
        self.rho = nn.ModuleList(ChannelImportance(c) for c in taught)
        self.phi = nn.ModuleList(ChannelImportance(c) for c in deeper)
        self.t = nn.ModuleList(_trusting(c) for c in decoded)

    def trust(self, number: int, decoded: Tensor) -> Tensor:
        """t of an attention: the teacher's features N C h w -> N hw in (0, 1)."""
        return torch.sigmoid(self.t[number](decoded)).flatten(1)


class Alignment(nn.Module):
    """f_l of Eq. 3: brings the features of each level but the last to the shape of the next, by 4x4 convolutions."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """N C h w of all levels -> N C' h/2 w/2 of all but the last."""
        return [layer(x) for layer, x in zip(self.layers, features[:-1], strict=True)]


def _identity(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(layer.weight)
    return _with_bias(layer, 0.0)


def _trusting(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, 1, 1)
    nn.init.zeros_(layer.weight)
    return _with_bias(layer, _FIRST_TRUST)


def _with_bias(layer: nn.Conv2d, value: float) -> nn.Conv2d:
    assert layer.bias is not None
    nn.init.constant_(layer.bias, value)
    return layer
