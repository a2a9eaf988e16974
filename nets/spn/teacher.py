"""The trunk of TResNet-L, which SPN's priors are distilled from, in plain torch.

In: pictures N3HW in [0, 1], not standardised, H and W multiples of 8; for published weights a state dict in the layout
of the ASL repository (`body.conv1.0.weight`, …). Out: three feature maps. A file of its own because the published
network is written with a fused add_activation normalisation that plain torch does not have.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.features import load_pretrained

_EPSILON: Final = 1e-5
_PREFIX: Final = "body."
_IDENTITY: Final = 1.0
"""The slope of an activation that changes nothing."""


class ActivatedNorm(nn.Module):
    """Batch normalisation by stored statistics and a leaky ReLU, N C H W -> same; it is never trained."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        normalised = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=_EPSILON)
        return F.leaky_relu(normalised, self.slope)


def _normed(channels_in: int, channels_out: int, kernel: int, slope: float) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight)
    return nn.Sequential(convolution, ActivatedNorm(channels_out, slope))


class SqueezeExcite(nn.Module):
    """Channels scaled by what their means say, N C H W -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(channels // 4, 64)
        self.fc1 = nn.Conv2d(channels, width, 1)
        self.fc2 = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class BlurredHalving(nn.Module):
    """A fixed binomial 3x3 filter of stride 2, padded with reflections, N C H W -> N C H/2 W/2."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = (row[:, None] * row / 16).expand(channels, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H/2 W/2."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=x.shape[1])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with squeeze and excitation; where the channels change, the resolution is halved."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        halves = channels_in != channels_out
        first = _normed(channels_in, channels_out, 3, slope=1e-3)
        self.conv1 = nn.Sequential(first, BlurredHalving(channels_out)) if halves else first
        self.conv2 = _normed(channels_out, channels_out, 3, _IDENTITY)
        self.se = SqueezeExcite(channels_out)
        pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
        shortcut = nn.Sequential(pool, _normed(channels_in, channels_out, 1, _IDENTITY))
        self.downsample = shortcut if halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N C_in H W -> N C_out H W, or H/2 W/2."""
        return F.relu(self.downsample(x) + self.se(self.conv2(self.conv1(x))))


class TResNetTrunk(nn.Module):
    """TResNet-L up to its second layer (Ridnik et al., WACV 2021): 2,578,192 parameters at width 76, 136 tensors.

    Fresh weights are Kaiming's: "SPN w/ rand" of Fig. 9.
    """

    def __init__(self, width: int = 76) -> None:
        super().__init__()
        self.conv1 = _normed(48, width, 3, slope=0.01)
        self.layer1 = nn.Sequential(*(BasicBlock(width, width) for _ in range(4)))
        self.layer2 = nn.Sequential(
            BasicBlock(width, 2 * width), *(BasicBlock(2 * width, 2 * width) for _ in range(4))
        )  # fmt: skip

    def forward(self, image: Tensor) -> list[Tensor]:
        """N3HW in [0, 1] -> layer2 N(2w)(H/8)(W/8), layer1 NwH/4W/4, conv1 NwH/4W/4."""
        first = self.conv1(space_to_depth(image))
        second = self.layer1(first)
        return [self.layer2(second), second, first]


def space_to_depth(image: Tensor) -> Tensor:
    """N C H W -> N 16C H/4 W/4, channels in the order row in the 4x4 block, column in it, colour."""
    n, channels, height, width = image.shape
    blocks = image.reshape(n, channels, height // 4, 4, width // 4, 4)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, 16 * channels, height // 4, width // 4)


def load_published_trunk(state: Mapping[str, Tensor]) -> TResNetTrunk:
    """TResNet-L's trunk out of the published state dict, which may hold more; raises ValueError on what does not fit.

    In-place add_activation normalisation scales by |weight| + 1e-5, batch normalisation by weight: converted here.
    """
    trunk = TResNetTrunk()
    body = {key.removeprefix(_PREFIX): tensor for key, tensor in state.items() if key.startswith(_PREFIX)}
    scales = {key for key, tensor in body.items() if key.endswith(".weight") and tensor.dim() == 1}
    converted = {key: tensor.abs() + _EPSILON if key in scales else tensor for key, tensor in body.items()}
    load_pretrained(trunk, converted, "TResNet-L")
    return trunk


def get_trunk_shapes() -> dict[str, Tensor]:
    """What of the published file the trunk takes, on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        return {f"{_PREFIX}{key}": tensor for key, tensor in TResNetTrunk().state_dict().items()}
