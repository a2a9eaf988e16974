"""The semantic prior learner: a picture at twice its size -> a pyramid of priors (section 3.1).

In: the masked picture N3(2H)(2W) and its mask N1(2H)(2W). Out: priors from the deepest to the finest, of H/4, H/2 and H
rows.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.checkpointing import maybe_checkpoint
from nets.literals import LiteralChecked
from nets.spn.blocks import (
    DenseBlock,
    ProjectingBlock,
    ResidualBlock,
    build_conv3x3,
    build_down_conv,
    build_reflect_conv,
    build_up_conv,
)


@dataclass(frozen=True)
class Sizes(LiteralChecked):
    """Sizes that SPN and SPL share; the defaults are the papers'."""

    width: int = 64
    """Channels after the first convolutions; all others except those below are multiples of it."""
    spade_width: int = 128
    """Channels in SPADE between a prior and its scale and shift."""
    num_spade_blocks: int = 8
    """SPADE ResBlocks at the deepest scale; 4, 8 and 12 in Table 4."""
    num_dense_blocks: int = 16
    num_dense_layers: int = 6
    growth: int = 32
    """Channels that each layer of a dense block adds."""
    num_prior_blocks: int = 4
    """Residual blocks between the dense blocks and the deepest prior."""
    residual: bool = False
    """Ours, for short trainings: the network adds to a smooth fill, in the hole only, as errors of known pixels would
    mostly train it to add nothing. The paper's makes the whole picture, squashed to [0, 1], from a white hole."""
    checkpointing: bool = False
    """Backward recomputes the inner features of dense and SPADE blocks: less memory, more time."""


class Pyramid(NamedTuple):
    """Priors from the deepest to the finest, and the posterior of the latent map if there is one."""

    priors: list[Tensor]
    posterior: dict[str, Tensor]
    """Tensors `mean` and `deviation`, N C h w, or nothing."""


class PriorLearner(nn.Module):
    """Encoder, dense bottleneck, optional variational module, and a decoder of up to three scales."""

    def __init__(self, sizes: Sizes, num_scales: int, *, slope: float, variational: bool) -> None:
        """`slope` of the encoder's activations below zero is 0 in SPN, 0.1 in SPL."""
        super().__init__()
        w = sizes.width
        self.slope = slope
        self.stem = build_reflect_conv(4, w, 7)
        self.downs = nn.ModuleList(
            [build_down_conv(w, 2 * w), build_down_conv(2 * w, 4 * w), build_down_conv(4 * w, 4 * w)]
        )
        self.dense = DenseBottleneck(sizes)
        self.variational = VariationalModule(w) if variational else None
        self.blocks = nn.Sequential(
            *([ProjectingBlock(8 * w, 4 * w)] if variational else []),
            *(ResidualBlock(4 * w) for _ in range(sizes.num_prior_blocks - variational)),
        )
        steps = [(4 * w, 4 * w, 2 * w), (2 * w, 2 * w, w)][: num_scales - 1]  # from, skip, to
        self.ups = nn.ModuleList(build_up_conv(deep, fine) for deep, _, fine in steps)
        self.joins = nn.ModuleList(ProjectingBlock(skip + fine, fine) for _, skip, fine in steps)

    def forward(self, masked: Tensor, mask: Tensor, noise: Tensor | None = None) -> Pyramid:
        """Masked N3(2H)(2W) in [0, 1], mask N1(2H)(2W), noise (KN)C(H/32)(W/32) -> priors of KN samples.

        Only a variational learner takes noise; without noise K = 1 and its latent map is the mean of the posterior.
        """
        x, skips = F.leaky_relu(self.stem(torch.cat([masked, mask], dim=1)), self.slope), []
        for down in self.downs:
            x = F.leaky_relu(down(x), self.slope)
            skips.append(x)
        deep, posterior = self.dense(x), {}
        if self.variational is not None:
            samples, posterior = self.variational(deep, noise)
            deep = torch.cat([repeat_samples(deep, samples), samples], dim=1)
        priors = [self.blocks(deep)]
        for up, join, skip in zip(self.ups, self.joins, skips[1::-1], strict=False):  # fewer scales use fewer skips
            fine = F.relu(up(priors[-1]))
            priors.append(join(torch.cat([repeat_samples(skip, fine), fine], dim=1)))
        return Pyramid(priors, posterior)


class DenseBottleneck(nn.Module):
    """Dense blocks in sequence, the outputs of all fused, and a residual over the whole, N C H W -> same."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels = 4 * sizes.width
        self.checkpointing = sizes.checkpointing
        self.first = build_conv3x3(channels, channels)
        self.blocks = nn.ModuleList(
            DenseBlock(channels, sizes.growth, sizes.num_dense_layers) for _ in range(sizes.num_dense_blocks)
        )
        self.fusion = nn.Sequential(
            nn.Conv2d(channels * sizes.num_dense_blocks, channels, 1), build_conv3x3(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        for block in self.blocks:
            features.append(maybe_checkpoint(block, features[-1], checkpointing=self.checkpointing))
        fused: Tensor = x + self.fusion(torch.cat(features[1:], dim=1))
        return fused


class VariationalModule(nn.Module):
    """Deep features -> a posterior of latent maps, an eighth as large -> features of a sample (Eq. 5, Fig. 3a)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [4 * width, 8 * width, 8 * width, 8 * width]
        self.encoder = nn.ModuleList(build_down_conv(*pair) for pair in pairwise(widths))
        self.mean = nn.Conv2d(8 * width, 2 * width, 1)
        self.deviation = nn.Conv2d(8 * width, 2 * width, 1)
        self.decoder = nn.ModuleList(
            build_up_conv(channels, 4 * width) for channels in (2 * width, 4 * width, 4 * width)
        )

    def forward(self, deep: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Deep N C H W, noise (KN)c(H/8)(W/8) -> features (KN)CHW; `mean` and `deviation` N c H/8 W/8 in float32."""
        x = deep
        for down in self.encoder:
            x = F.leaky_relu(down(x), 0.2)
        mean, deviation = self.mean(x).float(), F.softplus(self.deviation(x).float())
        z = mean if noise is None else repeat_samples(mean, noise) + repeat_samples(deviation, noise) * noise
        for up in self.decoder:
            z = F.relu(up(z))
        return z, {"mean": mean, "deviation": deviation}


class DistillationHeads(nn.Module):
    """1x1 convolutions from the priors to the maps of a teacher (f of Eq. 4); training only."""

    def __init__(self, width: int, target_channels: tuple[int, ...]) -> None:
        """`target_channels` are those of the scales, from the deepest to the finest."""
        super().__init__()
        pairs = zip((4 * width, 2 * width, width), target_channels, strict=False)
        self.heads = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in pairs)

    def forward(self, priors: list[Tensor]) -> list[Tensor]:
        """Priors -> predictions of the teacher's maps, from the deepest to the finest."""
        return [head(prior) for head, prior in zip(self.heads, priors, strict=True)]


def repeat_samples(x: Tensor, like: Tensor) -> Tensor:
    """Repeat the samples of x, one batch after the other, until there are as many as in `like`."""
    copies = like.shape[0] // x.shape[0]
    return x if copies == 1 else x.repeat(copies, 1, 1, 1)
