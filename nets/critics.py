"""Critics (discriminators): pictures and their conditions in, maps of scores out.

A critic does not know which picture is real; the losses in `nets.losses` give its scores a meaning.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


def _build_patch_layers(channels_in: int, width: int) -> nn.Sequential:
    """Four spectrally normalized 4x4 convolutions, N C H W -> N 4*width H/4+3 W/4+3."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels_in, width, 4, stride=2, padding=2)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(width, width * 2, 4, stride=2, padding=2)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(width * 2, width * 4, 4, padding=2)),
        nn.LeakyReLU(0.2, inplace=True),
        spectral_norm(nn.Conv2d(width * 4, width * 4, 4, padding=2)),
    )


class TwoScalePatchCritic(nn.Module):
    """Two conditional patch critics of DeepGIN, at full and at half resolution (section 4.1).

    At width 64 both together have 3,421,568 trainable parameters; 256x256 pictures give maps of 67x67 and 35x35.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_build_patch_layers(6, width) for _ in range(2))

    def forward(self, masked: Tensor, image: Tensor) -> list[Tensor]:
        """Condition N3HW and picture N3HW, both in [0, 1] -> two score maps, unbounded."""
        pair = torch.cat([masked, image], dim=1)
        halved = F.avg_pool2d(pair, 3, stride=2, padding=1, count_include_pad=False)
        return [critic(x) for critic, x in zip(self.scales, (pair, halved), strict=True)]
