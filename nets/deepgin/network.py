"""The generator of DeepGIN: what runs at inference (Li, Siu, Liu, Wang, Lun, ECCV Workshops 2020, section 3).

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 16, the paper's are 256.
Out: a dict with `coarse` N3HW, `low` N3(H/4)(W/4), `predicted` N3HW and `inpainted` N3HW, none of them clamped.
Holes are painted white before the network sees them. At width 32 the generator has 42,930,186 parameters (Table 1,
last row). Where paper and authors' code differ in architecture, this follows the code, which has the paper's count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.attention import NonLocalAttention
from nets.layers.convolution import UpConvolution, activated, convolution, initialise_kaiming

COARSE_DILATIONS = (2, 3, 4, 5, 6, 8, 10, 1)
REFINEMENT_DILATIONS = (2, 3, 4, 5)


@dataclass(frozen=True)
class DeepGINConfig:
    """The size of the network; the defaults are the paper's."""

    width: int = 32
    """Channels after the first convolution; every other width is a multiple of it."""
    num_coarse_blocks: int = 6
    """SPD blocks in the coarse stage."""
    num_refinement_blocks: int = 6
    """SPD blocks in the refinement stage, half of them on each side of its attention."""


class SPDBlock(nn.Module):
    """Spatial pyramid dilation residual block: parallel dilated 3x3 branches, one mixing 3x3, sum. N C H W -> same."""

    def __init__(self, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        width = channels // len(dilations)
        self.branches = nn.ModuleList(convolution(channels, width, 3, padding=d, dilation=d) for d in dilations)
        self.mix = convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        pyramid = torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1)
        mixed: Tensor = x + self.mix(pyramid)
        return mixed


class CoarseGenerator(nn.Module):
    """G1: whitened image and mask, N4HW -> first guess N3HW."""

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        w = config.width
        self.layers = nn.Sequential(
            activated(convolution(4, w, 7, padding=3)),
            *(activated(convolution(w * n, w * n * 2, 4, stride=2, padding=1)) for n in (1, 2, 4)),
            *(SPDBlock(w * 8, COARSE_DILATIONS) for _ in range(config.num_coarse_blocks)),
            *(UpConvolution(w * n, w * n // 2) for n in (8, 4, 2)),
            convolution(w, 3, 7, padding=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N4HW -> N3HW."""
        guess: Tensor = self.layers(x)
        return guess


class RefinementGenerator(nn.Module):
    """G2: composited first guess and mask, N4HW -> (detail N3HW, low N3(H/4)(W/4), alpha N1HW)."""

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        w, half = config.width, config.num_refinement_blocks // 2
        self.stem = activated(convolution(4, w, 7, padding=3))
        self.downs = nn.ModuleList(
            activated(convolution(w * n, w * n * 2, 4, stride=2, padding=1)) for n in (1, 2, 4, 8)
        )
        self.skip_quarter = nn.Sequential(activated(convolution(w * 4, w * 2, 3, padding=1)), NonLocalAttention(w * 2))
        self.skip_eighth = nn.Sequential(activated(convolution(w * 8, w * 4, 3, padding=1)), NonLocalAttention(w * 4))
        self.middle = nn.Sequential(
            *(SPDBlock(w * 16, REFINEMENT_DILATIONS) for _ in range(half)),
            NonLocalAttention(w * 16),
            *(SPDBlock(w * 16, REFINEMENT_DILATIONS) for _ in range(config.num_refinement_blocks - half)),
        )
        self.ups = nn.ModuleList(UpConvolution(w * n, w * n // 2) for n in (16, 8, 4, 2))
        self.mix_eighth = activated(convolution(w * 12, w * 8, 3, padding=1))
        self.mix_quarter = activated(convolution(w * 6, w * 4, 3, padding=1))
        self.low_head = nn.Sequential(activated(convolution(w * 4, w, 3, padding=1)), convolution(w, 3, 3, padding=1))
        self.detail_head = convolution(w, 3, 7, padding=3)
        self.alpha_head = convolution(w, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N4HW -> detail N3HW, low N3(H/4)(W/4), alpha N1HW in (0, 1)."""
        half = self.downs[0](self.stem(x))
        quarter = self.downs[1](half)
        eighth = self.downs[2](quarter)
        deep = self.middle(self.downs[3](eighth))
        deep = self.mix_eighth(torch.cat([self.ups[0](deep), self.skip_eighth(eighth)], dim=1))
        deep = self.mix_quarter(torch.cat([self.ups[1](deep), self.skip_quarter(quarter)], dim=1))
        low = self.low_head(deep)
        fine = self.ups[3](self.ups[2](deep))
        return self.detail_head(fine), low, torch.sigmoid(self.alpha_head(fine))


def reduce_by_four(x: Tensor) -> Tensor:
    """Bilinear, corners aligned, no anti-aliasing: N C H W -> N C H/4 W/4 (the authors' `Down4`)."""
    return F.interpolate(x, size=(x.shape[2] // 4, x.shape[3] // 4), mode="bilinear", align_corners=True)


class DeepGIN(nn.Module):
    """Coarse stage, refinement stage and back projection; see the module's docstring for shapes and ranges."""

    size_multiple_px = 16

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        if config.width % 4:
            raise ValueError(f"width is {config.width}: take a multiple of 4, the SPD blocks split it into branches")
        self.config = config
        self.coarse = CoarseGenerator(config)
        self.refinement = RefinementGenerator(config)
        initialise_kaiming(self, scale=0.1)  # section 4.2 of the paper; the code also overwrites the SA outputs so

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW -> coarse, low, predicted, inpainted; pixels under the mask are not read."""
        known = image * (1 - mask)
        coarse = self.coarse(torch.cat([known + mask, mask], dim=1))
        detail, low, alpha = self.refinement(torch.cat([coarse * mask + known, mask], dim=1))
        detail = detail * mask + known
        residual = F.interpolate(
            low - reduce_by_four(detail), size=image.shape[2:], mode="bilinear", align_corners=True
        )
        predicted = detail + alpha * residual
        return {"coarse": coarse, "low": low, "predicted": predicted, "inpainted": predicted * mask + known}
