"""Residual blocks of SPN and SPL: plain, dense, and conditioned on a prior.

In: features N C H W, for some blocks a prior N P H W. Out: features at the same size. A file of its own because prior
learner and image generator are built from them. Convolutions are padded with reflections where they say so and with
zeros elsewhere, as in the authors' code.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.checkpointing import maybe_checkpoint
from nets.spn.normalization import SPADE


def reflected(channels_in: int, channels_out: int, kernel: int = 3, *, dilation: int = 1) -> nn.Conv2d:
    """A convolution padded with reflections, N C_in H W -> N C_out H W."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels_in, channels_out, kernel, padding=padding, dilation=dilation, padding_mode="reflect"
    )  # fmt: skip


def convolved(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 3x3 convolution padded with zeros, N C_in H W -> N C_out H W."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


def halving(channels_in: int, channels_out: int) -> nn.Conv2d:
    """A 4x4 convolution of stride 2, N C_in H W -> N C_out H/2 W/2."""
    return nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1)


def doubling(channels_in: int, channels_out: int) -> nn.Sequential:
    """A 3x3 convolution and a pixel shuffle, N C_in H W -> N C_out 2H 2W."""
    return nn.Sequential(convolved(channels_in, 4 * channels_out), nn.PixelShuffle(2))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions without normalisation and an identity shortcut, N C H W -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = reflected(channels, channels)
        self.second = reflected(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        refined: Tensor = x + self.second(F.relu(self.first(x)))
        return refined


class ProjectingBlock(nn.Module):
    """Two 3x3 convolutions and a 3x3 convolution as shortcut, N C_in H W -> N C_out H W."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = reflected(channels_in, channels_out)
        self.second = reflected(channels_out, channels_out)
        self.shortcut = reflected(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """N C_in H W -> N C_out H W."""
        projected: Tensor = self.shortcut(x) + self.second(F.relu(self.first(x)))
        return projected


class DenseBlock(nn.Module):
    """RDB: 3x3 convolutions that each see all before them, a 1x1 fusion, residual sum, N C H W -> same."""

    def __init__(self, channels: int, growth: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convolved(channels + i * growth, growth) for i in range(num_layers))
        self.fusion = nn.Conv2d(channels + num_layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, F.relu(layer(seen))], dim=1)
        fused: Tensor = x + self.fusion(seen)
        return fused


class SPADEBlock(nn.Module):
    """The SPADE ResBlock of the bottleneck: identity shortcut, first convolution dilated by 2 (Fig. 3b)."""

    def __init__(self, channels: int, prior_channels: int, width: int) -> None:
        super().__init__()
        self.adapt_first = SPADE(channels, prior_channels, width)
        self.first = reflected(channels, channels, dilation=2)
        self.adapt_second = SPADE(channels, prior_channels, width)
        self.second = reflected(channels, channels)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """N C H W and prior N P H W -> N C H W."""
        inner = self.first(F.relu(self.adapt_first(x, prior)))
        refined: Tensor = x + self.second(F.relu(self.adapt_second(inner, prior)))
        return refined


class SPADEProjectingBlock(nn.Module):
    """The SPADE ResBlock of the decoder: fewer channels out than in, SPADE and a 3x3 convolution as shortcut."""

    def __init__(self, channels_in: int, channels_out: int, prior_channels: int, width: int) -> None:
        super().__init__()
        self.adapt_first = SPADE(channels_in, prior_channels, width)
        self.first = convolved(channels_in, channels_out)
        self.adapt_second = SPADE(channels_out, prior_channels, width)
        self.second = convolved(channels_out, channels_out)
        self.adapt_shortcut = SPADE(channels_in, prior_channels, width)
        self.shortcut = convolved(channels_in, channels_out)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """N C_in H W and prior N P H W -> N C_out H W."""
        inner = self.first(F.leaky_relu(self.adapt_first(x, prior), 0.2))
        inner = self.second(F.leaky_relu(self.adapt_second(inner, prior), 0.2))
        projected: Tensor = self.shortcut(self.adapt_shortcut(x, prior)) + inner
        return projected


class ConcatenatingBlock(nn.Module):
    """Features and prior beside each other through a plain block: what "w/o SPADE" of Fig. 7 has in SPADE's place."""

    def __init__(self, channels_in: int, channels_out: int, prior_channels: int) -> None:
        super().__init__()
        self.block = ProjectingBlock(channels_in + prior_channels, channels_out)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """N C_in H W and prior N P H W -> N C_out H W."""
        mixed: Tensor = self.block(torch.cat([x, prior], dim=1))
        return mixed


def chain(blocks: Iterable[nn.Module], x: Tensor, *others: Tensor, checkpointing: bool) -> Tensor:
    """N C H W through all the blocks, each of which also gets `others` -> N C H W."""
    for block in blocks:
        x = maybe_checkpoint(block, x, *others, checkpointing=checkpointing)
    return x
