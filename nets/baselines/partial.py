"""PC: irregular holes by partial convolutions (Liu et al., ECCV 2018), their U-Net.

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 2 to the number of widths. Out: a
dict with `predicted` and `inpainted` N3HW, and `encoded_1` … of its first halvings, which DGI may teach; the paper does
not, and as the teacher's skips let its picture through, little of it need reach the deep features. Ours: layers are
normalised in groups and not over batches, whose statistics would not be the same on several ranks.
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
    """The size of the network; the defaults are the paper's for 256x256."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512)
    """Channels after each halving."""
    kernels: tuple[int, ...] = (7, 5, 5, 3, 3, 3, 3)
    """Of the halvings; on the way back all are 3."""
    num_distilled_levels: int = 3
    """Halvings whose features are given out."""
    completion: bool = False
    """DGI's completion blocks at these halvings."""
    residual: bool = False
    """Ours, for short trainings: the network adds to a smooth fill of the hole."""

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.kernels) >= self.num_distilled_levels:
            raise ValueError(
                f"widths are {self.widths}, kernels {self.kernels}, num_distilled_levels is "
                f"{self.num_distilled_levels}: give one kernel for each width, and distill at most as many levels"
            )


class PartialConvolution(nn.Module):
    """W (x m) * (all / known) + b where any value under the kernel is known, else 0 (Eqs. 1 and 2)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels_out, 1, 1))

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """N C HW, 0 where not known, and the share of channels known N1HW -> N C' h w and what is known N1hw."""
        layer = self.convolution
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        share = F.avg_pool2d(known, kernel, stride, padding=kernel // 2)
        reached = (share > 0).to(x.dtype)
        return (layer(x) / share.clamp_min(torch.finfo(x.dtype).tiny) + self.bias) * reached, reached


class PartialBlock(nn.Module):
    """Partial convolution, normalisation, activation; unknown places stay 0."""

    def __init__(self, layer: PartialConvolution, activation: nn.Module, *, normed: bool) -> None:
        super().__init__()
        width = layer.convolution.out_channels
        self.layer, self.activation = layer, activation
        self.norm = nn.GroupNorm(gcd(_GROUPS, width), width) if normed else nn.Identity()

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
            PartialBlock(PartialConvolution(a, b, kernel, 2), nn.ReLU(), normed=number > 0)
            for number, ((a, b), kernel) in enumerate(zip(pairwise(widths), config.kernels, strict=True))
        )
        self.ups = nn.ModuleList(
            PartialBlock(PartialConvolution(a + b, b, 3), nn.LeakyReLU(0.2), normed=True)
            for b, a in reversed(list(pairwise(config.widths)))
        )
        self.picture = PartialConvolution(config.widths[0] + 3, 3, 3)
        self.completion = CompletionBlocks(self.taught) if config.completion else None

    @property
    def taught(self) -> tuple[int, ...]:
        """Channels of the levels that DGI teaches."""
        return self.config.widths[: self.config.num_distilled_levels]

    @property
    def attended(self) -> tuple[int, ...]:
        """There is no attention."""
        return ()

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 1 << len(self.downs)

    def forward(self, image: Tensor, mask: Tensor, base: Tensor | None = None) -> dict[str, Tensor]:
        """Image N3HW, mask N1HW -> predicted, inpainted and features; `base` N3HW: what a residual network adds to."""
        refuse_odd_size(image, self.multiple_px)
        picture, valid = image * (1 - mask), 1 - mask
        levels, features = [(picture, valid)], {}
        for number, down in enumerate(self.downs):
            x, known = down(*levels[-1])
            if self.completion is not None and number < self.config.num_distilled_levels:
                x, known = self.completion(x, mask, number), torch.ones_like(known)
            if number < self.config.num_distilled_levels:
                features[f"encoded_{number + 1}"] = x
            levels.append((x, known))
        deep = levels.pop()
        for up in self.ups:
            deep = up(*_joined(deep, levels.pop()))
        raw, _ = self.picture(*_joined(deep, levels.pop()))
        painted = paint_hole(picture, mask, base) if self.config.residual else picture
        predicted = to_image(raw, painted, mask, self.config.residual)
        return {"predicted": predicted, "inpainted": predicted * mask + picture, **features}


def _joined(deep: tuple[Tensor, Tensor], skip: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Doubled features beside those of the way down, and the share of all channels that is known of both."""
    (x, known), (y, seen) = (tuple(F.interpolate(t, scale_factor=2, mode="nearest") for t in deep)), skip
    share = (x.shape[1] * known + y.shape[1] * seen) / (x.shape[1] + y.shape[1])
    return torch.cat([x, y], dim=1), share
