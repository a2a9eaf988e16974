"""Gated convolutions (Yu et al., Free-form image inpainting with gated convolution, ICCV 2019, Eq. 3).

In: N C H W features. Out: the same at the new width or resolution, each value let through as far as its gate says; and
the layers of DeepFillv2 that MHTMA shares with it. A file of its own because several generators are built from it
alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedConvolution(nn.Module):
    """act(features) * sigmoid(gate), both by convolutions of one shape: N C_in H W -> N C_out H/stride W/stride."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        activation: Callable[[Tensor], Tensor] = F.elu,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.convolution = nn.Conv2d(channels_in, 2 * channels_out, kernel, stride, padding, dilation)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """N C_in H W -> N C_out H/stride W/stride."""
        features, gate = self.convolution(x).chunk(2, dim=1)
        return self.activation(features) * torch.sigmoid(gate)


class GatedUpConvolution(GatedConvolution):
    """Nearest x2, then a gated 3x3 convolution: N C_in H W -> N C_out 2H 2W."""

    def forward(self, x: Tensor) -> Tensor:
        """N C_in H W -> N C_out 2H 2W."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


def build_encoder_start(channels_in: int, width: int, at_quarter: int) -> list[nn.Module]:
    """The first five layers of a refinement branch, N C HW -> N 4W H/4 W/4; the fourth gives `at_quarter` channels."""
    return [
        GatedConvolution(channels_in, width, 5),
        GatedConvolution(width, width, stride=2),
        GatedConvolution(width, 2 * width),
        GatedConvolution(2 * width, at_quarter, stride=2),
        GatedConvolution(at_quarter, 4 * width),
    ]


def build_picture_decoder(width: int) -> list[nn.Module]:
    """The last five layers of a generator, N 4W h w -> N3 4h 4w, unbounded."""
    return [
        GatedUpConvolution(4 * width, 2 * width),
        GatedConvolution(2 * width, 2 * width),
        GatedUpConvolution(2 * width, width),
        GatedConvolution(width, width // 2),
        nn.Conv2d(width // 2, 3, 3, padding=1),
    ]
