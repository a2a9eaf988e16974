"""PC: irregular holes by partial convolutions (Liu et al., ECCV 2018), the paper's U-Net.

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 2 to the number of widths. Out: a
dict with `predicted` and `inpainted` N3HW, and `encoded_1` … of the first halvings, which DGI can distill; the paper
does not, and as the teacher's skips pass its picture on, its deep features may carry little. Ours: normalization is
over groups and not over batches, whose statistics would differ between ranks.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.baselines.backbone import CompletionBlocks
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole, to_image

_GROUPS: Final = 32


@dataclass(frozen=True)
class PCConfig:
    """Size of the network; the defaults are the paper's for 256x256."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512)
    """Channels after each halving."""
    kernels: tuple[int, ...] = (7, 5, 5, 3, 3, 3, 3)
    """Kernel of each halving; the decoder's are 3."""
    num_distilled_levels: int = 3
    """Halvings whose features are among the outputs."""
    completion: bool = False
    """DGI's completion blocks at these halvings."""
    residual: bool = False
    """Ours, for short trainings: the network adds to a smooth fill of the hole."""

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.kernels) >= self.num_distilled_levels:
            raise ValueError(
                f"widths are {self.widths}, kernels {self.kernels}, num_distilled_levels is "
                f"{self.num_distilled_levels}: give one kernel per width, and distill at most as many levels"
            )


class PartialConvolution(nn.Module):
    """W (x m) * (all / known) + b where any value under the kernel is known, else 0 (Eqs. 1 and 2)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels_out, 1, 1))

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """N C HW, 0 where unknown, and the known share of channels N1HW -> N C' h w and known pixels N1hw."""
        layer = self.convolution
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        share = F.avg_pool2d(known, kernel, stride, padding=kernel // 2)
        reached = (share > 0).to(x.dtype)
        return (layer(x) / share.clamp_min(torch.finfo(x.dtype).tiny) + self.bias) * reached, reached


class PartialBlock(nn.Module):
    """Partial convolution, normalization, activation; unknown places stay 0."""

    def __init__(self, layer: PartialConvolution, activation: nn.Module, *, has_norm: bool) -> None:
        super().__init__()
        width = layer.convolution.out_channels
        self.layer, self.activation = layer, activation
        self.norm = nn.GroupNorm(gcd(_GROUPS, width), width) if has_norm else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """N C HW and known N1HW -> N C' h w and known N1hw."""
        y, reached = self.layer(x, known)
        return self.activation(self.norm(y)) * reached, reached


class PC(nn.Module):
    """The U-Net of section 3.2; see the module's docstring for shapes and ranges."""

    def __init__(self, config: PCConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.widths)
        self.downs = nn.ModuleList(
            PartialBlock(PartialConvolution(a, b, kernel, 2), nn.ReLU(), has_norm=number > 0)
            for number, ((a, b), kernel) in enumerate(zip(pairwise(widths), config.kernels, strict=True))
        )
        self.ups = nn.ModuleList(
            PartialBlock(PartialConvolution(a + b, b, 3), nn.LeakyReLU(0.2), has_norm=True)
            for b, a in reversed(list(pairwise(config.widths)))
        )
        self.picture = PartialConvolution(config.widths[0] + 3, 3, 3)
        self.distilled_channels = config.widths[: config.num_distilled_levels]
        """Channels of the levels that DGI distills."""
        self.attention_channels: tuple[int, ...] = ()
        """Channels before each attention that DGI distills."""
        self.multiple_px = 1 << len(self.downs)
        """Divisor of valid heights and widths."""
        self.completion = CompletionBlocks(self.distilled_channels) if config.completion else None

    def forward(self, image: Tensor, mask: Tensor, base: Tensor | None = None) -> dict[str, Tensor]:
        """Image N3HW, mask N1HW -> predicted, inpainted, features; a residual network adds to `base` N3HW."""
        refuse_odd_size(image, self.multiple_px)
        picture, valid = image * (1 - mask), 1 - mask
        levels, features = [(picture, valid)], {}
        # Halve: the completed features of a level are known everywhere.
        for number, down in enumerate(self.downs):
            x, known = down(*levels[-1])
            if self.completion is not None and number < self.config.num_distilled_levels:
                x, known = self.completion(x, mask, number), torch.ones_like(known)
            if number < self.config.num_distilled_levels:
                features[f"encoded_{number + 1}"] = x
            levels.append((x, known))
        # Double, with skips.
        deep = levels.pop()
        for up in self.ups:
            deep = up(*_join_skip(deep, levels.pop()))
        raw, _ = self.picture(*_join_skip(deep, levels.pop()))
        painted = paint_hole(picture, mask, base) if self.config.residual else picture
        predicted = to_image(raw, painted, mask, self.config.residual)
        return {"predicted": predicted, "inpainted": predicted * mask + picture, **features}


def _join_skip(deep: tuple[Tensor, Tensor], skip: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Doubled features beside the encoder's, and the known share of the channels of both."""
    (x, known), (y, known_skip) = (tuple(F.interpolate(t, scale_factor=2, mode="nearest") for t in deep)), skip
    share = (x.shape[1] * known + y.shape[1] * known_skip) / (x.shape[1] + y.shape[1])
    return torch.cat([x, y], dim=1), share
