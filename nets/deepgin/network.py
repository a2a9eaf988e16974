"""The generator of DeepGIN: what runs at inference (Li, Siu, Liu, Wang, Lun, ECCV Workshops 2020, section 3).

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 16, the paper's are 256.
Out: a dict with `coarse` N3HW, `low` N3(H/4)(W/4), `predicted` N3HW and `inpainted` N3HW, none of them clamped.
A shallower network for smaller pictures has fewer halvings: `low` is two halvings above its deepest features.
Holes are painted white before the network sees them, or smoothly with `residual`. At width 32 the generator has
42,930,186 parameters (Table 1, last row). Where paper and authors' code differ in architecture, this follows the code,
which has the paper's count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.attention import NonLocalAttention
from nets.layers.convolution import UpConvolution, activated, convolution, initialise_kaiming
from nets.layers.smooth import fill_smoothly

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
    num_halvings: int = 4
    """Strided convolutions of the refinement stage, at least 3; the coarse stage has one fewer."""
    initial_scale: float = 0.1
    """Factor on Kaiming's initial weights (section 4.2)."""
    residual: bool = False
    """Ours, for short trainings: the stages add to a smooth fill of the hole and to the first guess; the paper's make
    theirs from a white hole."""


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
        widths = [config.width << level for level in range(config.num_halvings)]
        self.layers = nn.Sequential(
            activated(convolution(4, config.width, 7, padding=3)),
            *_halvings(widths),
            *(SPDBlock(widths[-1], COARSE_DILATIONS) for _ in range(config.num_coarse_blocks)),
            *(UpConvolution(w, w // 2) for w in widths[:0:-1]),
            convolution(config.width, 3, 7, padding=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N4HW -> N3HW."""
        guess: Tensor = self.layers(x)
        return guess


def _halvings(widths: list[int]) -> list[nn.Module]:
    """Strided 4x4 convolutions from each width to the next, twice as large."""
    return [activated(convolution(w, w * 2, 4, stride=2, padding=1)) for w in widths[:-1]]


class RefinementGenerator(nn.Module):
    """G2: composited first guess and mask, N4HW -> (detail N3HW, low N3hw, alpha N1HW); h, w as the config says.

    At the paper's four halvings the skips come from 1/8 and 1/4 of the resolution and `low` has 1/4 of it.
    """

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        w, half = config.width, config.num_refinement_blocks // 2
        widths = [w << level for level in range(config.num_halvings + 1)]
        *_, far, near, deep = widths
        self.stem = activated(convolution(4, w, 7, padding=3))
        self.downs = nn.ModuleList(_halvings(widths))
        self.skip_far = _skip(far)
        self.skip_near = _skip(near)
        self.middle = nn.Sequential(
            *(SPDBlock(deep, REFINEMENT_DILATIONS) for _ in range(half)),
            NonLocalAttention(deep),
            *(SPDBlock(deep, REFINEMENT_DILATIONS) for _ in range(config.num_refinement_blocks - half)),
        )
        self.ups = nn.ModuleList(UpConvolution(n, n // 2) for n in widths[:0:-1])
        self.mix_near = activated(convolution(near + near // 2, near, 3, padding=1))
        self.mix_far = activated(convolution(far + far // 2, far, 3, padding=1))
        self.low_head = nn.Sequential(activated(convolution(far, w, 3, padding=1)), convolution(w, 3, 3, padding=1))
        self.detail_head = convolution(w, 3, 7, padding=3)
        self.alpha_head = convolution(w, 1, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N4HW -> detail N3HW, low N3hw, alpha N1HW in (0, 1)."""
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        *_, far, near, deep = levels
        up_near, up_far, *others = self.ups
        mixed = self.mix_near(torch.cat([up_near(self.middle(deep)), self.skip_near(near)], dim=1))
        fine = self.mix_far(torch.cat([up_far(mixed), self.skip_far(far)], dim=1))
        low = self.low_head(fine)
        for up in others:
            fine = up(fine)
        return self.detail_head(fine), low, torch.sigmoid(self.alpha_head(fine))


def _skip(channels: int) -> nn.Sequential:
    return nn.Sequential(
        activated(convolution(channels, channels // 2, 3, padding=1)), NonLocalAttention(channels // 2)
    )


def reduce_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners aligned, no anti-aliasing: N C H W to the height and width of `like` (the authors' `Down4`)."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class DeepGIN(nn.Module):
    """Coarse stage, refinement stage and back projection; see the module's docstring for shapes and ranges."""

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        if config.width % 4:
            raise ValueError(f"width is {config.width}: take a multiple of 4, the SPD blocks split it into branches")
        if config.num_halvings < 3:
            raise ValueError(f"num_halvings is {config.num_halvings}: the skips need at least 3")
        self.config = config
        self.coarse = CoarseGenerator(config)
        self.refinement = RefinementGenerator(config)
        initialise_kaiming(self, config.initial_scale)  # also the outputs of the SA blocks, as in the code

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW -> coarse, low, predicted, inpainted; pixels under the mask are not read."""
        known = image * (1 - mask)
        residual = self.config.residual
        painted = fill_smoothly(known, mask) if residual else known + mask
        coarse = self.coarse(torch.cat([painted, mask], dim=1)) + residual * painted
        guess = coarse * mask + known
        detail, low, alpha = self.refinement(torch.cat([guess, mask], dim=1))
        detail = (detail + residual * guess) * mask + known
        low = low + residual * reduce_to(guess, low)
        back = F.interpolate(low - reduce_to(detail, low), size=image.shape[2:], mode="bilinear", align_corners=True)
        predicted = detail + alpha * back
        return {"coarse": coarse, "low": low, "predicted": predicted, "inpainted": predicted * mask + known}
