"""The attention layers of MHTMA and their learned temperatures (sections III-C and III-D), and that of ATMA.

In: features N C h w and the hole N1HW of the picture. Out: features of the same shape, and the temperatures N x heads.
A file of its own because the three attentions of Table I stand in for each other; the third is in `contextual.py`.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.masked_attention import temperature_attention
from nets.layers.patches import fold_patches, unfold_patches
from nets.layers.precision import disable_autocast

Heads = Literal["all", "highest", "lowest"]
"""Which heads speak, by their temperature: at inference all but one may be silenced (Fig. 8)."""
_LEAST_TEMPERATURE: Final = 1e-4
_LEAST_NORM: Final = 1e-8


class TemperatureNetwork(nn.Module):
    """Four convolutions, global mean and maximum, one fully connected layer: N C h w -> a scalar N (Eq. 14, Fig. 4).

    Softplus keeps MHTMA's temperatures positive (Eq. 13); ATMA's LeakyReLU does not. Both begin near 0.69.
    """

    def __init__(self, channels: int, positive: bool) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        widths = [channels, half, half, quarter, quarter]
        self.convolutions = nn.ModuleList(nn.Conv2d(n, m, 3, stride=2, padding=1) for n, m in pairwise(widths))
        self.linear = nn.Linear(2 * quarter, 1)
        self.positive = positive
        nn.init.constant_(self.linear.bias, 0.0 if positive else 0.69)

    def forward(self, x: Tensor) -> Tensor:
        """N C h w -> N, in float32 also under autocast; never nearer to 0 than 0.0001."""
        with disable_autocast(x):
            x = x.float()
            for convolution in self.convolutions:
                x = F.leaky_relu(convolution(x), 0.2)
            scalar = self.linear(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))[:, 0]
        if self.positive:
            return F.softplus(scalar) + _LEAST_TEMPERATURE
        temperature = F.leaky_relu(scalar, 0.2)
        return torch.where(temperature.abs() < _LEAST_TEMPERATURE, _LEAST_TEMPERATURE, temperature)


@dataclass(frozen=True)
class Matching:
    """How patches are compared; MHTMA's if nothing is given."""

    patch_px: int = 3
    hidden_share: float = 0.0
    """A key is hidden where more than this share of its pixels is missing."""
    level: float = -1e4
    """The score of hidden keys."""
    normalised: bool = True
    """Queries of unit length and positive temperatures; false: ATMA's, of any length and of either sign."""


class AttentionHead(nn.Module):
    """Masked self-attention over patches of embedded features at one learned temperature: N C h w -> N C' h w."""

    def __init__(self, channels: int, embedded: int, matching: Matching) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(channels, embedded, 1)
        self.temperature = TemperatureNetwork(channels, positive=matching.normalised)
        self.matching = matching

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features N C h w and hole N1hw -> attended N C' h w and temperature N; scores are float32 always."""
        embedded, temperature = self.embedding(x).float(), self.temperature(x)
        size, (height, width) = self.matching.patch_px, x.shape[2:]
        query, patches = unfold_patches(embedded, size, size // 2), unfold_patches(embedded, size)
        if self.matching.normalised:
            query = F.normalize(query, dim=2, eps=_LEAST_NORM)
        key = F.normalize(patches, dim=2, eps=_LEAST_NORM)
        hidden = find_hidden_patches(mask, size, self.matching.hidden_share)
        mixed = temperature_attention(query, key, patches, hidden, temperature, self.matching.level)
        return fold_patches(mixed, height, width, size), temperature


def find_hidden_patches(mask: Tensor, patch_px: int, share: float) -> Tensor:
    """Hole N1hw -> N L in {0, 1}: 1 where more than this share of a patch without padding is missing (Eq. 8)."""
    return (F.avg_pool2d(mask.float(), patch_px, stride=1).flatten(1) > share).float()


class TemperatureAttention(nn.Module):
    """H heads side by side: MHTMA (section III-C), or with `normalised` false ATMA's attention.

    ATMA (BMVC 2021) matches by convolution with the keys as kernels, which is the same product of rows, but with
    queries of any length. That it has MHTMA's embeddings is ours: they make it a drop-in of the same widths.
    """

    def __init__(self, channels: int, num_heads: int, matching: Matching, *, residual: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleList(AttentionHead(channels, channels // num_heads, matching) for _ in range(num_heads))
        self.residual = residual

    def forward(self, x: Tensor, mask: Tensor, active_heads: Heads = "all") -> tuple[Tensor, Tensor]:
        """Features N C h w and hole N1HW -> attended N C h w and temperatures N x heads."""
        reduced = F.interpolate(mask, size=x.shape[2:], mode="nearest")
        attended, temperatures = zip(*(head(x, reduced) for head in self.heads), strict=True)
        together, by_head = torch.stack(attended, dim=1), torch.stack(temperatures, dim=1)
        if active_heads != "all":
            together = together * _only(by_head, active_heads)[:, :, None, None, None]
        mixed = together.flatten(1, 2)
        return (x + mixed if self.residual else mixed), by_head


def _only(temperatures: Tensor, which: Heads) -> Tensor:
    """N x heads -> the same with 1 at the head of the highest or the lowest temperature of each sample, else 0."""
    chosen = temperatures.argmax(dim=1) if which == "highest" else temperatures.argmin(dim=1)
    return F.one_hot(chosen, temperatures.shape[1]).to(temperatures.dtype)
