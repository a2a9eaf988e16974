"""The generator of DeepGIN: what runs at inference (Li, Siu, Liu, Wang, Lun, ECCV Workshops 2020, section 4.1).

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 16, the paper's are 256. For track
2 of the challenge also `segmentation` N3HW in [0, 1], the picture of its classes, known in the hole too.
Out: a dict with `coarse` N3HW, `low` N3(H/4)(W/4), `predicted` N3HW and `inpainted` N3HW, none of them clamped; no
`coarse` from the coarse stage alone, no `low` without back projection. A shallower network for smaller pictures has
fewer halvings: `low` is two halvings above its deepest features. Holes are painted white before the network sees them,
or smoothly with `residual`. Where paper and authors' code differ in architecture, this follows the code, which has the
paper's counts. The rows of Table 1, with the parameters at width 32:

    StdResBlk (coarse only)   8,167,843   block="standard", coarse_only=True
    StdResBlk                40,849,990   block="standard", attention="none", back_projection=False
    StdResBlk-SA             41,375,558   block="standard", attention="single", back_projection=False
    StdResBlk-MSSA           42,892,134   block="standard", back_projection=False
    DilatedResBlk-MSSA       42,892,134   block="dilated", back_projection=False
    SPDResBlk-MSSA           42,892,134   back_projection=False
    SPDResBlk-MSSA-BP        42,930,186   the defaults
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.attention import NonLocalAttention
from nets.layers.checkpointing import maybe_checkpoint
from nets.layers.convolution import UpConvolution, add_activation, convolution, initialize_kaiming
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole
from nets.literals import LiteralChecked

COARSE_DILATIONS = (2, 3, 4, 5, 6, 8, 10, 1)
REFINEMENT_DILATIONS = (2, 3, 4, 5)


@dataclass(frozen=True)
class DeepGINConfig(LiteralChecked):
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
    """Factor on Kaiming's initial weights (section 5.1)."""
    residual: bool = False
    """Ours, for short trainings: stages add to a smooth fill and to the first guess, in the hole alone, as errors of
    known pixels would teach them above all to add nothing; the paper's make whole pictures from a white hole."""
    smoothing_sweeps: int = 0
    """Ours, with `residual`: sweeps at each level of the smooth fill, which bring it near the harmonic one."""
    block: Literal["standard", "dilated", "spd"] = "spd"
    """The residual blocks (Figure 3): two plain convolutions, the first of them dilated by 2, or SPD."""
    attention: Literal["none", "single", "multi"] = "multi"
    """Self-attention of the refinement stage: at no scale, at the deepest (SA), or at three (MSSA, section 4.1); only
    the last has skips."""
    back_projection: bool = True
    """Whether the refinement stage corrects its picture by one of a quarter of the resolution (section 4.1)."""
    coarse_only: bool = False
    """The coarse stage alone, whose guess is the prediction."""
    segmentation: bool = False
    """Track 2: both stages see the segmentation map beside the picture, 7 channels instead of 4 (authors' code)."""
    checkpointing: bool = False
    """Residual blocks keep their inputs alone and run again in the backward pass: slower, in less memory."""

    @property
    def num_channels(self) -> int:
        """Of what each stage sees: picture, mask, segmentation map."""
        return 7 if self.segmentation else 4

    def dilations(self, pyramid: tuple[int, ...]) -> tuple[int, ...]:
        """Of the parallel branches of a block that has this pyramid in the paper."""
        return {"standard": (1,), "dilated": (2,), "spd": pyramid}[self.block]


class SPDBlock(nn.Module):
    """Spatial pyramid dilation residual block: parallel dilated 3x3 branches, one mixing 3x3, sum. N C H W -> same.

    With the one dilation 1 or 2 it is the standard or the dilated block (Figure 3).
    """

    def __init__(self, channels: int, dilations: tuple[int, ...], *, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        width = channels // len(dilations)
        self.branches = nn.ModuleList(convolution(channels, width, 3, padding=d, dilation=d) for d in dilations)
        self.mix = convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        return x + maybe_checkpoint(self._change, x, checkpointing=self.checkpointing)

    def _change(self, x: Tensor) -> Tensor:
        change: Tensor = self.mix(torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1))
        return change


class CoarseGenerator(nn.Module):
    """G1: whitened image, mask and segmentation map, NCHW -> first guess N3HW."""

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        widths = [config.width << level for level in range(config.num_halvings)]
        self.layers = nn.Sequential(
            add_activation(convolution(config.num_channels, config.width, 7, padding=3)),
            *_halvings(widths),
            *(_block(config, widths[-1], COARSE_DILATIONS) for _ in range(config.num_coarse_blocks)),
            *(UpConvolution(w, w // 2) for w in widths[:0:-1]),
            convolution(config.width, 3, 7, padding=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """NCHW -> N3HW."""
        guess: Tensor = self.layers(x)
        return guess


def _block(config: DeepGINConfig, channels: int, pyramid: tuple[int, ...]) -> SPDBlock:
    return SPDBlock(channels, config.dilations(pyramid), checkpointing=config.checkpointing)


def _halvings(widths: list[int]) -> list[nn.Module]:
    """Strided 4x4 convolutions from each width to the next, twice as large."""
    return [add_activation(convolution(w, w * 2, 4, stride=2, padding=1)) for w in widths[:-1]]


class RefinementGenerator(nn.Module):
    """G2: composited first guess, mask and segmentation map, NCHW -> detail N3HW and what back projection needs.

    That is low N3hw and alpha N1HW. At the paper's four halvings the skips come from 1/8 and 1/4 of the resolution and
    `low` has 1/4 of it.
    """

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        w, half = config.width, config.num_refinement_blocks // 2
        widths = [w << level for level in range(config.num_halvings + 1)]
        *_, far, near, deep = widths
        multi = config.attention == "multi"
        self.stem = add_activation(convolution(config.num_channels, w, 7, padding=3))
        self.downs = nn.ModuleList(_halvings(widths))
        self.skip_far = _skip(far) if multi else None
        self.skip_near = _skip(near) if multi else None
        self.middle = nn.Sequential(
            *(_block(config, deep, REFINEMENT_DILATIONS) for _ in range(half)),
            *([] if config.attention == "none" else [NonLocalAttention(deep)]),
            *(_block(config, deep, REFINEMENT_DILATIONS) for _ in range(config.num_refinement_blocks - half)),
        )
        self.ups = nn.ModuleList(UpConvolution(n, n // 2) for n in widths[:0:-1])
        self.mix_near = _mix(near) if multi else None
        self.mix_far = _mix(far) if multi else None
        self.low_head = _low_head(far, w) if config.back_projection else None
        self.detail_head = convolution(w, 3, 7, padding=3)
        self.alpha_head = convolution(w, 1, 3, padding=1) if config.back_projection else None

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """NCHW -> detail N3HW and (low N3hw, alpha N1HW in (0, 1)), or None without back projection."""
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        *_, far, near, deep = levels
        up_near, up_far, *others = self.ups
        fine = _joined(up_near(self.middle(deep)), near, self.skip_near, self.mix_near)
        fine = low_features = _joined(up_far(fine), far, self.skip_far, self.mix_far)
        for up in others:
            fine = up(fine)
        detail = self.detail_head(fine)
        if self.low_head is None or self.alpha_head is None:
            return detail, None
        return detail, (self.low_head(low_features), torch.sigmoid(self.alpha_head(fine)))


def _joined(fine: Tensor, level: Tensor, skip: nn.Module | None, mix: nn.Module | None) -> Tensor:
    """What comes up, mixed with what of the encoder's level comes over the skip, where there is one."""
    if skip is None or mix is None:
        return fine
    mixed: Tensor = mix(torch.cat([fine, skip(level)], dim=1))
    return mixed


def _mix(channels: int) -> nn.Sequential:
    return add_activation(convolution(channels + channels // 2, channels, 3, padding=1))


def _low_head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(add_activation(convolution(channels, width, 3, padding=1)), convolution(width, 3, 3, padding=1))


def _skip(channels: int) -> nn.Sequential:
    return nn.Sequential(
        add_activation(convolution(channels, channels // 2, 3, padding=1)), NonLocalAttention(channels // 2)
    )


def reduce_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corners aligned, no anti-aliasing: N C H W to the height and width of `like` (the authors' `Down4`)."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class DeepGIN(nn.Module):
    """Coarse stage, refinement stage and back projection; see the module's docstring for shapes and ranges.

    Raises ValueError on a width that is no multiple of 4 and on fewer than 3 halvings.
    """

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        if config.width % 4:
            raise ValueError(f"width is {config.width}: take a multiple of 4, the SPD blocks split it into branches")
        if config.num_halvings < 3:
            raise ValueError(f"num_halvings is {config.num_halvings}: the skips need at least 3")
        self.config = config
        self.coarse = CoarseGenerator(config)
        self.refinement = None if config.coarse_only else RefinementGenerator(config)
        initialize_kaiming(self, config.initial_scale)  # also the outputs of the SA blocks, as in the code

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 1 << self.config.num_halvings

    def forward(
        self, image: Tensor, mask: Tensor, segmentation: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW, map N3HW -> coarse, low, predicted, inpainted.

        Pixels of the image under the mask are not read. A network of track 2 that is given no map sees a black one;
        others do not look at it. `base` N3HW: what a residual network adds to, a smooth fill if not given.
        """
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        beside = [mask]
        if self.config.segmentation:
            beside.append(torch.zeros_like(image) if segmentation is None else segmentation)
        painted = paint_hole(known, mask, base, self.config.smoothing_sweeps) if self.config.residual else known + mask
        coarse = self._based(self.coarse(torch.cat([painted, *beside], dim=1)), painted, mask)
        if self.refinement is None:
            return {"predicted": coarse, "inpainted": coarse * mask + known}
        guess = coarse * mask + known
        detail, correction = self.refinement(torch.cat([guess, *beside], dim=1))
        detail = self._based(detail, guess, mask)
        if correction is None:
            return {"coarse": coarse, "predicted": detail, "inpainted": detail * mask + known}
        low, alpha = correction
        low = self._based(low, reduce_to(guess, low), F.max_pool2d(mask, self.multiple_px // 4))
        predicted = project_back(detail * mask + known, low, alpha)
        return {"coarse": coarse, "low": low, "predicted": predicted, "inpainted": predicted * mask + known}

    def _based(self, raw: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """What a stage has made, N3HW; with `residual` it is added to `base` in the hole N1HW alone."""
        return base + raw * mask if self.config.residual else raw


def project_back(detail: Tensor, low: Tensor, alpha: Tensor) -> Tensor:
    """Adds to `detail` N3HW, times `alpha` N1HW, what `low` N3hw has more than it at that resolution (section 4.1)."""
    back = F.interpolate(low - reduce_to(detail, low), size=detail.shape[2:], mode="bilinear", align_corners=True)
    return detail + alpha * back
