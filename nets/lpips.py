"""LPIPS: learned perceptual image patch similarity, version 0.1 (Zhang et al., CVPR 2018, Eq. 1), as a metric.

In: two batches of pictures N3HW in [0, 1]. Out: a distance for each pair, 0 for equal pictures, or a map of it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.features import AlexNetFeatures, PretrainedFeatures, VGGFeatures, load_pretrained

_LAYERS: Final = {
    "alex": {"relu1": 64, "relu2": 192, "relu3": 384, "relu4": 256, "relu5": 256},
    "vgg": {"relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512},
}
"""Compared layers and their channels."""


class LPIPS(nn.Module):
    """Distance over a pretrained backbone: `features` is its state dict, `heads` has `lin<k>.model.1.weight`.

    Its published shift and scale of pictures in [-1, 1] are ImageNet's mean and deviation of pictures in [0, 1]. Raises
    ValueError if a tensor is missing or has another shape.
    """

    def __init__(
        self, backbone: Literal["alex", "vgg"], features: Mapping[str, Tensor], heads: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        channels = _LAYERS[backbone]
        layers = tuple(channels)
        self.backbone: PretrainedFeatures = (
            AlexNetFeatures(layers, features) if backbone == "alex" else VGGFeatures(16, layers, features)
        )
        self.heads = nn.ModuleDict({f"lin{k}": _Head(width) for k, width in enumerate(channels.values())})
        load_pretrained(self.heads, heads, f"LPIPS heads of {backbone}")
        self.layers = layers

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """N3HW and N3HW in [0, 1] -> N distances."""
        return average_maps(self.compare(image, other))

    def compare(self, image: Tensor, other: Tensor) -> list[Tensor]:
        """N3HW and N3HW in [0, 1] -> a map N1hw of weighted differences for each compared layer."""
        maps, others = self.backbone(image), self.backbone(other)
        pairs = ((_normalize_channels(maps[name]), _normalize_channels(others[name])) for name in self.layers)
        return [head((one - two).square()) for head, (one, two) in zip(self.heads.values(), pairs, strict=True)]


def average_maps(maps: Sequence[Tensor]) -> Tensor:
    """Sum over layers of the mean over positions, N1hw of each -> N."""
    return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in maps]).sum(dim=0)


def sum_maps(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Sum over layers of maps N1hw, each resized to the picture bilinearly, N H W: the published `spatial` form."""
    larger = [F.interpolate(layer, size=size, mode="bilinear", align_corners=False) for layer in maps]
    return torch.stack(larger).sum(dim=0)[:, 0]


class _Head(nn.Module):
    """Weight of each channel, under the published key `model.1.weight`; the dropout before it is for training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, differences: Tensor) -> Tensor:
        """N C h w -> N 1 h w."""
        weighted: Tensor = self.model(differences)
        return weighted


def _normalize_channels(features: Tensor) -> Tensor:
    """Scale the channel vector of every position to length 1, N C H W -> same."""
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # its gradient at 0 is 0, not NaN
    scaled: Tensor = features / (length + 1e-10)
    return scaled
