"""The blocks of DGI's encoders and decoders (sections 3.1 to 3.3): residual, attention, fusion.

In and out: N C H W. A file of its own because the inpainting and the auxiliary network share them.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.adaptive import AdaptiveConvolution
from nets.layers.convolution import add_activation

_FIRST_ATTENTION: Final = -3.0
"""Where PGL adds, attention begins with the weight sigmoid(-3) = 0.05, as its shares are uniform at first."""


class ResidualBlock(nn.Module):
    """x + convolution(LeakyReLU(convolution(x))), through `hidden` channels: N C H W -> same."""

    def __init__(self, channels: int, hidden: int | None = None, kernel: int = 3) -> None:
        super().__init__()
        hidden = channels if hidden is None else hidden
        self.inner = add_activation(nn.Conv2d(channels, hidden, kernel, padding=kernel // 2))
        self.outer = nn.Conv2d(hidden, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        y: Tensor = x + self.outer(self.inner(x))
        return y


class UpBlock(nn.Module):
    """Nearest x2, 3x3 convolution, LeakyReLU: N C_in H W -> N C_out 2H 2W."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = add_activation(nn.Conv2d(channels_in, channels_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """N C_in H W -> N C_out 2H 2W."""
        doubled: Tensor = self.convolution(F.interpolate(x, scale_factor=2, mode="nearest"))
        return doubled


class Affinity(nn.Module):
    """Attention without values of its own: a_i = sum over j of softmax_j(Q(d_i) K(d_j)) d_j (Eqs. 7 and 8).

    Eq. 7 as printed has its softmax over i and Eq. 8 sums over j: here both are over the keys j. Scores are not scaled.
    `pooling` averages keys and what they stand for over squares of so many pixels.
    """

    def __init__(self, channels: int, pooling: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.pooling = pooling

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N C H W -> attended N C H W, queries N HW C/2 and keys N hw C/2."""
        pooled = F.avg_pool2d(x, self.pooling) if self.pooling > 1 else x
        query, key, value = (t.flatten(2).transpose(1, 2) for t in (self.query(x), self.key(pooled), pooled))
        spread = value.shape[2] - query.shape[2]  # zeros: torch's fused kernels want all rows of one width
        wide_query, wide_key = (F.pad(t, (0, spread))[:, None] for t in (query, key))
        attended = F.scaled_dot_product_attention(wide_query, wide_key, value[:, None], scale=1.0)
        return attended[:, 0].transpose(1, 2).reshape(x.shape), query, key


class DecoderLevel(nn.Module):
    """Residual blocks, then attention, alone or fused with adaptive convolution: N C H W -> N C H W.

    With PGL a weight of each position chooses between both (Eq. 10): O = f_att(D) W + f_ada(D) (1 - W).
    """

    def __init__(self, channels: int, num_blocks: int, pooling: int, *, fused: bool, additive_fusion: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(num_blocks)))
        self.affinity = Affinity(channels, pooling) if pooling else None
        self.weight = nn.Conv2d(channels, 1, 3, padding=1) if pooling and fused else None
        self.additive_fusion = additive_fusion

    def begin_fusion(self) -> None:
        """Sets the initial weights of PGL, in place: the same weight of attention at every position."""
        if self.weight is not None and self.weight.bias is not None:
            nn.init.zeros_(self.weight.weight)
            nn.init.constant_(self.weight.bias, _FIRST_ATTENTION if self.additive_fusion else 0.0)

    def forward(self, x: Tensor, local: AdaptiveConvolution | None) -> dict[str, Tensor]:
        """N C H W -> `output` N C H W, and with attention `decoded` N C H W, `query` and `key`.

        With PGL also its weight W, `fusion`: N1HW in (0, 1), 1 where attention is taken.
        """
        decoded = self.blocks(x)
        if self.affinity is None:
            return {"output": decoded}
        mixed, query, key = self.affinity(decoded)
        found = {"decoded": decoded, "query": query, "key": key}
        if self.weight is not None and local is not None:
            near = local(decoded)
            found["fusion"] = torch.sigmoid(self.weight(decoded))
            mixed = near + (mixed - near) * found["fusion"]
        return found | {"output": decoded + mixed if self.additive_fusion else mixed}
