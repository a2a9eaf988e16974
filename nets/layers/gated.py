"""Gated convolutions (Yu et al., Free-form image inpainting with gated convolution, ICCV 2019, Eq. 3).

In: N C H W features. Out: the same at the new width or resolution, each value let through as far as its gate says. A
file of its own because several generators are built from it alone.
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
