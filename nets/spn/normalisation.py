"""Normalisations of SPN and SPL: over the regions of a mask, and conditioned on a prior.

In: features N C H W with a mask N1hw or a prior N P h w. Out: features of the same shape. A file of its own because
these are what the paper's blocks differ by from ordinary residual blocks. All statistics are taken in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-5
_IMPORTANT = 0.8
"""Importance from which on a pixel belongs to the region that learned region normalisation finds."""


def normalize_instance(x: Tensor) -> Tensor:
    """N C H W -> the same with mean 0 and variance 1 in each sample and channel."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
    centred = x - mean
    if torch.onnx.is_in_onnx_export():
        centred = centred - centred.mean(dim=(2, 3), keepdim=True)  # see `normalize_region`
    return centred * torch.rsqrt(variance + _EPSILON)


def normalize_region(x: Tensor, region: Tensor) -> Tensor:
    """N C H W, region N1HW in {0, 1} -> (x - mean) / deviation of the region inside it, 0 outside.

    Yu et al., Region normalization for image inpainting, AAAI 2020: the complement is filled with the region's mean,
    the whole normalised and multiplied by the root of the region's share.
    """
    x, num_pixels = x.float(), region.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    centred = (x - (x * region).sum(dim=(2, 3), keepdim=True) / num_pixels) * region
    if torch.onnx.is_in_onnx_export():
        # onnxruntime's sums err 20 times as far as torch's, and of a hole of one color the error is all that is left,
        # which is divided by a deviation of almost 0: take off what the mean lacked.
        centred = centred - centred.sum(dim=(2, 3), keepdim=True) / num_pixels * region
    variance = centred.square().mean(dim=(2, 3), keepdim=True)
    share = num_pixels / (region.shape[2] * region.shape[3])
    return centred * (torch.rsqrt(variance + _EPSILON) * share.sqrt())


class RegionNormalization(nn.Module):
    """RN_B: hole and rest normalised apart, each with its own scale; both shifts are added everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hole_scale, self.hole_shift = _per_channel(channels), _per_channel(channels)
        self.rest_scale, self.rest_shift = _per_channel(channels), _per_channel(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """N C H W and mask N1hw of any size -> N C H W."""
        hole = F.interpolate(mask, size=x.shape[2:], mode="nearest")
        inside = normalize_region(x, hole) * (1 + self.hole_scale)
        outside = normalize_region(x, 1 - hole) * (1 + self.rest_scale)
        return inside + outside + (self.hole_shift + self.rest_shift)


def _per_channel(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, channels, 1, 1))


class LearnedRegionNormalization(nn.Module):
    """RN_L: regions are where a map of importance, made from the features, is high. 198 parameters; SPL's decoder."""

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
        normalised = normalize_region(x, region) + normalize_region(x, 1 - region)
        adapted: Tensor = normalised * (1 + self.scale(importance)) + self.shift(importance)
        return adapted


class SPADE(nn.Module):
    """Spatially adaptive normalisation (Eq. 8; Park et al., CVPR 2019): scale and shift of each pixel from the prior.

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
