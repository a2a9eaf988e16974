"""Normalizations of SPN and SPL: over the regions of a mask, and conditioned on a prior.

In: features N C H W with a mask N1hw or a prior N P h w. Out: features of the same shape. Statistics are in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-5
_IMPORTANT = 0.8
"""Least importance of pixels in the region that learned region normalization finds."""


def normalize_instance(x: Tensor) -> Tensor:
    """Normalize N C H W to mean 0 and variance 1 in each sample and channel."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    centered = x - mean
    if torch.onnx.is_in_onnx_export():
        centered = centered - centered.mean(dim=(2, 3), keepdim=True)  # see `normalize_region`
    return centered * torch.rsqrt(variance + _EPSILON)


def normalize_region(x: Tensor, region: Tensor) -> Tensor:
    """Normalize N C H W by mean and deviation inside a region N1HW in {0, 1}; outside it is 0.

    Yu et al., Region normalization for image inpainting, AAAI 2020: the complement is filled with the region's mean,
    the whole normalized and multiplied by the root of the region's share.
    """
    x, num_pixels = x.float(), region.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    centered = (x - (x * region).sum(dim=(2, 3), keepdim=True) / num_pixels) * region
    if torch.onnx.is_in_onnx_export():
        # onnxruntime's sums err 20 times as far as torch's. In a hole of one color only the error is left, which is
        # divided by a deviation of almost 0: subtract it.
        centered = centered - centered.sum(dim=(2, 3), keepdim=True) / num_pixels * region
    variance = centered.square().mean(dim=(2, 3), keepdim=True)
    share = num_pixels / (region.shape[2] * region.shape[3])
    return centered * (torch.rsqrt(variance + _EPSILON) * share.sqrt())


class RegionNormalization(nn.Module):
    """RN_B: hole and rest are normalized separately, each with its own scale; both shifts are added everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hole_scale, self.hole_shift = _make_channel_parameter(channels), _make_channel_parameter(channels)
        self.rest_scale, self.rest_shift = _make_channel_parameter(channels), _make_channel_parameter(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """N C H W and mask N1hw of any size -> N C H W."""
        hole = F.interpolate(mask, size=x.shape[2:], mode="nearest")
        inside = normalize_region(x, hole) * (1 + self.hole_scale)
        outside = normalize_region(x, 1 - hole) * (1 + self.rest_scale)
        return inside + outside + (self.hole_shift + self.rest_shift)


def _make_channel_parameter(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, channels, 1, 1))


class LearnedRegionNormalization(nn.Module):
    """RN_L, in SPL's decoder: a map of importance, made from the features, defines the regions. 198 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.importance = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.scale = nn.Conv2d(1, 1, 7, padding=3)
        self.shift = nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        importance = torch.sigmoid(self.importance(summary))
        region = (importance.detach() >= _IMPORTANT).float()
        normalized = normalize_region(x, region) + normalize_region(x, 1 - region)
        adapted: Tensor = normalized * (1 + self.scale(importance)) + self.shift(importance)
        return adapted


class SPADE(nn.Module):
    """Spatially adaptive normalization (Eq. 8; Park et al., CVPR 2019): scale and shift of each pixel from the prior.

    As in the authors' code the scale is 1 + gamma; Eq. 8 prints gamma.
    """

    def __init__(self, channels: int, prior_channels: int, width: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(prior_channels, width, 3, padding=1)
        self.scale = nn.Conv2d(width, channels, 3, padding=1)
        self.shift = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """N C H W and prior N P H W -> N C H W."""
        hidden = F.relu(self.shared(prior))
        adapted: Tensor = normalize_instance(x) * (1 + self.scale(hidden)) + self.shift(hidden)
        return adapted
