"""The critic of MHTMA: one look at the whole picture, one at a patch of it (section III-A).

In: a picture of fixed size and a patch of it, N3HW in [0, 1]. Out: one score for each. A file of its own because its
layout, that of GLCIC (Iizuka et al., SIGGRAPH 2017), is no other paper's here. With it goes the choice of the patch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True)
class GlobalLocalCriticConfig:
    """The size of the critic; the defaults are GLCIC's, the paper's own numbers are lost."""

    size_px: int = 256
    """Side of the picture."""
    local_px: int = 128
    """Side of the patch."""
    width: int = 64
    """Channels after the first convolution; they double up to eight times as many."""
    num_global: int = 6
    """Strided convolutions for the picture."""
    num_local: int = 5
    """Strided convolutions for the patch."""
    num_features: int = 1024
    """What each of the two says before they are joined."""

    def __post_init__(self) -> None:
        if not 1 <= self.local_px <= self.size_px:
            raise ValueError(f"local_px is {self.local_px}: take 1 to size_px, the picture's {self.size_px}")


class GlobalLocalCritic(nn.Module):
    """5x5 convolutions of stride 2 and a fully connected layer for picture and patch, one more for both together.

    At the paper's size 45,056,769 parameters, 41,386,753 with a patch of 96. The score is not bounded: behind the
    sigmoid of the text no fake could ever leave the hinge's margin. With `spectral` every layer is spectrally
    normalised, as the paper's hinge loss wants it; the critic of WGAN-GP is not.
    """

    def __init__(self, config: GlobalLocalCriticConfig, spectral: bool = True) -> None:
        super().__init__()
        self.config = config
        self.whole = _looks(config, config.size_px, config.num_global, spectral)
        self.part = _looks(config, config.local_px, config.num_local, spectral)
        last = nn.Linear(2 * config.num_features, 1, bias=spectral)  # in a difference of scores it would cancel out
        self.score = _maybe_normalised(last, spectral)

    def forward(self, image: Tensor, corners: Tensor) -> Tensor:
        """Pictures N3SS in [0, 1] and where their patches begin, int64 N2 (row, column) -> scores N1, unbounded.

        Raises ValueError on pictures of another size than the config's.
        """
        if image.shape[2:] != (self.config.size_px, self.config.size_px):
            size = "x".join(map(str, image.shape[2:]))
            raise ValueError(f"a picture of {size} for a critic of {self.config.size_px} px: give it that as size_px")
        signed = 2 * image - 1
        both = [self.whole(signed), self.part(crop(signed, corners, self.config.local_px))]
        score: Tensor = self.score(torch.cat(both, dim=1))
        return score


def _looks(config: GlobalLocalCriticConfig, size_px: int, num_convolutions: int, spectral: bool) -> nn.Sequential:
    """N3SS -> N features."""
    layers: list[nn.Module] = []
    channels = 3
    for number in range(num_convolutions):
        width = config.width * min(8, 2**number)
        layers += [_maybe_normalised(nn.Conv2d(channels, width, 5, 2, 2), spectral), nn.LeakyReLU(0.2, inplace=True)]
        channels, size_px = width, -(-size_px // 2)
    linear = nn.Linear(channels * size_px**2, config.num_features)
    return nn.Sequential(*layers, nn.Flatten(), _maybe_normalised(linear, spectral), nn.LeakyReLU(0.2, inplace=True))


def _maybe_normalised(layer: nn.Module, spectral: bool) -> nn.Module:
    return spectral_norm(layer) if spectral else layer


def choose_corners(mask: Tensor, fractions: Tensor, size_px: int) -> Tensor:
    """Squares around random pixels of holes, moved into the picture: N1HW, uniform N1 -> first rows and columns N2."""
    height, width = mask.shape[2:]
    ranks = mask.flatten(1).cumsum(dim=1)
    pixel = torch.searchsorted(ranks, (fractions * ranks[:, -1:]).floor() + 0.5)
    middles = (pixel // width, height), (pixel % width, width)
    return torch.cat([(middle - size_px // 2).clamp(0, side - size_px) for middle, side in middles], dim=1)


def crop(image: Tensor, corners: Tensor, size_px: int) -> Tensor:
    """The squares that begin at these corners: N C H W and int64 N2 -> N C size size."""
    steps = torch.arange(size_px, device=image.device)
    rows, columns = (corners[:, i, None] + steps for i in range(2))
    samples = torch.arange(len(image), device=image.device)[:, None, None]
    return image[samples, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
