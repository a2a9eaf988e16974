"""The critic of MHTMA: one branch for the whole picture, one for a patch of it (section III-A).

In: a picture of fixed size and a patch of it, N3HW in [0, 1]. Out: one score per picture. The layout is that of GLCIC
(Iizuka et al., SIGGRAPH 2017).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class GlobalLocalCriticConfig:
    """Size of the critic; the defaults are GLCIC's, the paper's own numbers are lost."""

    size_px: int = 256
    """Side of the picture."""
    local_px: int = 128
    """Side of the patch."""
    width: int = 64
    """Channels after the first convolution; they double to at most eight times as many."""
    num_global: int = 6
    """Strided convolutions for the picture."""
    num_local: int = 5
    """Strided convolutions for the patch."""
    num_features: int = 1024
    """Features of each branch before the join."""

    def __post_init__(self) -> None:
        if not 1 <= self.local_px <= self.size_px:
            raise ValueError(f"local_px is {self.local_px}: use 1 to size_px, which is {self.size_px}")


class GlobalLocalCritic(nn.Module):
    """5x5 convolutions of stride 2 and a fully connected layer for picture and patch, one more layer for both.

    At the paper's size 45,056,769 parameters, 41,386,753 with a patch of 96. The score is unbounded: after the sigmoid
    in the paper's text no fake could leave the hinge's margin. With `spectral` every layer is spectrally normalized, as
    for the paper's hinge loss; the critic of WGAN-GP is not.
    """

    def __init__(self, config: GlobalLocalCriticConfig, spectral: bool = True) -> None:
        super().__init__()
        self.config = config
        self.whole = _build_branch(config, config.size_px, config.num_global, spectral)
        self.part = _build_branch(config, config.local_px, config.num_local, spectral)
        last = nn.Linear(2 * config.num_features, 1, bias=spectral)  # a bias would cancel out in a difference of scores
        self.score = _maybe_normalize(last, spectral)

    def forward(self, image: Tensor, corners: Tensor) -> Tensor:
        """Pictures N3SS in [0, 1] and first pixels of their patches, int64 N2 (row, column) -> scores N1, unbounded.

        Raises ValueError for pictures of another size than the config's.
        """
        if image.shape[2:] != (self.config.size_px, self.config.size_px):
            size = "x".join(map(str, image.shape[2:]))
            raise ValueError(f"picture is {size} px, size_px of the critic is {self.config.size_px}: make them equal")
        signed = 2 * image - 1
        both = [self.whole(signed), self.part(crop(signed, corners, self.config.local_px))]
        score: Tensor = self.score(torch.cat(both, dim=1))
        return score


def _build_branch(
    config: GlobalLocalCriticConfig, size_px: int, num_convolutions: int, spectral: bool
) -> nn.Sequential:
    """Build a branch: N3SS -> N features."""
    layers: list[nn.Module] = []
    channels = 3
    for number in range(num_convolutions):
        width = config.width * min(8, 2**number)
        layers += [
            _maybe_normalize(nn.Conv2d(channels, width, 5, 2, 2), spectral),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels, size_px = width, -(-size_px // 2)
    linear = nn.Linear(channels * size_px**2, config.num_features)
    return nn.Sequential(*layers, nn.Flatten(), _maybe_normalize(linear, spectral), nn.LeakyReLU(0.2, inplace=True))


def _maybe_normalize(layer: nn.Module, spectral: bool) -> nn.Module:
    return spectral_norm(layer) if spectral else layer


def choose_corners(mask: Tensor, fractions: Tensor, size_px: int) -> Tensor:
    """Choose squares around random hole pixels, moved into the picture: N1HW, uniform N1 -> first pixels N2."""
    height, width = mask.shape[2:]
    ranks = mask.flatten(1).cumsum(dim=1)
    pixel = torch.searchsorted(ranks, (fractions * ranks[:, -1:]).floor() + 0.5)
    middles = (pixel // width, height), (pixel % width, width)
    return torch.cat([(middle - size_px // 2).clamp(0, side - size_px) for middle, side in middles], dim=1)


def crop(image: Tensor, corners: Tensor, size_px: int) -> Tensor:
    """Crop the squares that begin at these corners: N C H W and int64 N2 -> N C size size."""
    steps = torch.arange(size_px, device=image.device)
    rows, columns = (corners[:, i, None] + steps for i in range(2))
    samples = torch.arange(len(image), device=image.device)[:, None, None]
    return image[samples, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
