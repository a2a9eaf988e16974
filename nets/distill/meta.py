"""The meta-networks of DGI: they weigh which of the teacher's features the student should learn (sections 3.1 and 3.2).

In: features N C h w of the teacher. Out: transformed features, weights of channels, weights of positions. They are not
needed at inference. At width 128 and three levels they have 132,483 parameters, the alignment convolutions 524,544.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FIRST_TRUST: Final = 2.0
"""First bias of t: each position has the weight sigmoid(2) = 0.88."""


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
    """gamma and rho of each level, phi of each but the first, t of each attention, as far as the lessons need them.

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
        crossed, deeper = (channels if cross_distillation else ()), (channels[1:] if self_distillation else ())
        self.gamma = nn.ModuleList(_init_constant(nn.Conv2d(c, c, 1), nn.init.dirac_, 0.0) for c in crossed)
        self.rho = nn.ModuleList(ChannelImportance(c) for c in crossed)
        self.phi = nn.ModuleList(ChannelImportance(c) for c in deeper)
        self.t = nn.ModuleList(_init_constant(nn.Conv2d(c, 1, 1), nn.init.zeros_, _FIRST_TRUST) for c in decoded)

    def trust(self, number: int, decoded: Tensor) -> Tensor:
        """t of an attention: the teacher's features N C h w -> N hw in (0, 1)."""
        return torch.sigmoid(self.t[number](decoded)).flatten(1)


class Alignment(nn.Module):
    """f_l of Eq. 3: 4x4 convolutions from the features of each level but the last to the shape of the next."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """N C h w of all levels -> N C' h/2 w/2 of all but the last."""
        return [layer(x) for layer, x in zip(self.layers, features[:-1], strict=True)]


def _init_constant(layer: nn.Conv2d, init: Callable[[Tensor], Tensor], bias: float) -> nn.Conv2d:
    """Initialize the weight by a function and the bias by a constant, in place."""
    assert layer.bias is not None
    init(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer
