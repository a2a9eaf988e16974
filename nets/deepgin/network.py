"""The generator of DeepGIN, which runs at inference (Li, Siu, Liu, Wang, Lun, ECCV Workshops 2020, section 4.1).

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 16, the paper's are 256. For track
2 of the challenge also `segmentation` N3HW in [0, 1], the picture of its classes, known in the hole too.
Out: a dict with `coarse` N3HW, `low` N3(H/4)(W/4), `predicted` N3HW and `inpainted` N3HW, none of them clamped; no
`coarse` from the coarse stage alone, no `low` without back projection. A shallower network for smaller pictures has
fewer halvings: `low` is two halvings above its deepest features. Holes are painted white before the network sees them,
or smoothly with `residual`. Where the architectures of paper and authors' code differ, this follows the code, which
has the paper's parameter counts. The rows of Table 1, with the parameters at width 32:

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
from nets.layers.convolution import UpConvolution, add_activation, build_conv, initialize_kaiming
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole
from nets.literals import LiteralChecked

COARSE_DILATIONS = (2, 3, 4, 5, 6, 8, 10, 1)
REFINEMENT_DILATIONS = (2, 3, 4, 5)


@dataclass(frozen=True)
class DeepGINConfig(LiteralChecked):
    """Size of the network; the defaults are the paper's."""

    width: int = 32
    """Channels after the first convolution; every other width is a multiple of it."""
    num_coarse_blocks: int = 6
    """SPD blocks in the coarse stage."""
    num_refinement_blocks: int = 6
    """SPD blocks in the refinement stage, half of them before its attention and half after it."""
    num_halvings: int = 4
    """Strided convolutions of the refinement stage, at least 3; the coarse stage has one fewer."""
    initial_scale: float = 0.1
    """Factor on Kaiming's initial weights (section 5.1)."""
    residual: bool = False
    """Ours, for short trainings: stages add to a smooth fill and to the first guess, in the hole only, as errors of
    known pixels would mostly train them to add nothing. The paper's make whole pictures from a white hole."""
    smoothing_sweeps: int = 0
    """Ours, with `residual`: sweeps at each level of the smooth fill, which bring it near the harmonic fill."""
    block: Literal["standard", "dilated", "spd"] = "spd"
    """The residual blocks (Figure 3): two plain convolutions, the first of them dilated by 2, or SPD."""
    attention: Literal["none", "single", "multi"] = "multi"
    """Self-attention of the refinement stage: at no scale, at the deepest (SA), or at three (MSSA, section 4.1), which
    adds skips."""
    back_projection: bool = True
    """Whether the refinement stage corrects its picture by one of a quarter of the resolution (section 4.1)."""
    coarse_only: bool = False
    """Whether the coarse stage is the whole network, its guess the prediction."""
    segmentation: bool = False
    """Track 2: both stages also see the segmentation map, 7 channels instead of 4 (authors' code)."""
    checkpointing: bool = False
    """Residual blocks keep only their inputs and run again in the backward pass: slower, in less memory."""

    @property
    def num_channels(self) -> int:
        """Input channels of each stage: picture, mask, segmentation map."""
        return 7 if self.segmentation else 4

    def choose_dilations(self, pyramid: tuple[int, ...]) -> tuple[int, ...]:
        """Dilations of the parallel branches of a block that has this pyramid in the paper."""
        return {"standard": (1,), "dilated": (2,), "spd": pyramid}[self.block]


class SPDBlock(nn.Module):
    """Spatial pyramid dilation residual block: parallel dilated 3x3 branches, one mixing 3x3, sum. N C H W -> same.

    With the single dilation 1 or 2 it is the standard or the dilated block (Figure 3).
    """

    def __init__(self, channels: int, dilations: tuple[int, ...], *, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        width = channels // len(dilations)
        self.branches = nn.ModuleList(build_conv(channels, width, 3, padding=d, dilation=d) for d in dilations)
        self.mix = build_conv(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + maybe_checkpoint(self._compute_change, x, checkpointing=self.checkpointing)

    def _compute_change(self, x: Tensor) -> Tensor:
        change: Tensor = self.mix(torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1))
        return change


class CoarseGenerator(nn.Module):
    """G1: whitened image, mask and segmentation map, NCHW -> first guess N3HW."""

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        widths = [config.width << level for level in range(config.num_halvings)]
        self.layers = nn.Sequential(
            add_activation(build_conv(config.num_channels, config.width, 7, padding=3)),
            *_build_halvings(widths),
            *(_build_block(config, widths[-1], COARSE_DILATIONS) for _ in range(config.num_coarse_blocks)),
            *(UpConvolution(w, w // 2) for w in widths[:0:-1]),
            build_conv(config.width, 3, 7, padding=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """NCHW -> N3HW."""
        guess: Tensor = self.layers(x)
        return guess


def _build_block(config: DeepGINConfig, channels: int, pyramid: tuple[int, ...]) -> SPDBlock:
    return SPDBlock(channels, config.choose_dilations(pyramid), checkpointing=config.checkpointing)


def _build_halvings(widths: list[int]) -> list[nn.Module]:
    """Build strided 4x4 convolutions from each width to the next, which is twice as large."""
    return [add_activation(build_conv(w, w * 2, 4, stride=2, padding=1)) for w in widths[:-1]]


class RefinementGenerator(nn.Module):
    """G2: composited first guess, mask and segmentation map, NCHW -> detail N3HW, low and alpha.

    Low N3hw and alpha N1HW are for back projection. At the paper's four halvings the skips come from 1/8 and 1/4 of the
    resolution, and `low` has 1/4 of it.
    """

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        w, half = config.width, config.num_refinement_blocks // 2
        widths = [w << level for level in range(config.num_halvings + 1)]
        *_, far, near, deep = widths
        multi = config.attention == "multi"
        # Encoder and skips.
        self.stem = add_activation(build_conv(config.num_channels, w, 7, padding=3))
        self.downs = nn.ModuleList(_build_halvings(widths))
        self.skip_far = _build_skip(far) if multi else None
        self.skip_near = _build_skip(near) if multi else None
        # Blocks around the attention.
        self.middle = nn.Sequential(
            *(_build_block(config, deep, REFINEMENT_DILATIONS) for _ in range(half)),
            *([] if config.attention == "none" else [NonLocalAttention(deep)]),
            *(_build_block(config, deep, REFINEMENT_DILATIONS) for _ in range(config.num_refinement_blocks - half)),
        )
        # Decoder and heads.
        self.ups = nn.ModuleList(UpConvolution(n, n // 2) for n in widths[:0:-1])
        self.mix_near = _build_mix(near) if multi else None
        self.mix_far = _build_mix(far) if multi else None
        self.low_head = _build_low_head(far, w) if config.back_projection else None
        self.detail_head = build_conv(w, 3, 7, padding=3)
        self.alpha_head = build_conv(w, 1, 3, padding=1) if config.back_projection else None

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """NCHW -> detail N3HW and (low N3hw, alpha N1HW in (0, 1)), or None without back projection."""
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        *_, far, near, deep = levels
        up_near, up_far, *others = self.ups
        fine = _join_skip(up_near(self.middle(deep)), near, self.skip_near, self.mix_near)
        fine = low_features = _join_skip(up_far(fine), far, self.skip_far, self.mix_far)
        for up in others:
            fine = up(fine)
        detail = self.detail_head(fine)
        if self.low_head is None or self.alpha_head is None:
            return detail, None
        return detail, (self.low_head(low_features), torch.sigmoid(self.alpha_head(fine)))


def _join_skip(fine: Tensor, level: Tensor, skip: nn.Module | None, mix: nn.Module | None) -> Tensor:
    """Mix the decoder's features with the encoder's if the level has a skip."""
    if skip is None or mix is None:
        return fine
    mixed: Tensor = mix(torch.cat([fine, skip(level)], dim=1))
    return mixed


def _build_mix(channels: int) -> nn.Sequential:
    return add_activation(build_conv(channels + channels // 2, channels, 3, padding=1))


def _build_low_head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        add_activation(build_conv(channels, width, 3, padding=1)),
        build_conv(width, 3, 3, padding=1),
    )


def _build_skip(channels: int) -> nn.Sequential:
    return nn.Sequential(
        add_activation(build_conv(channels, channels // 2, 3, padding=1)), NonLocalAttention(channels // 2)
    )


def reduce_to(x: Tensor, like: Tensor) -> Tensor:
    """Reduce N C H W to the size of `like`: bilinear, corners aligned, no anti-aliasing (the authors' `Down4`)."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class DeepGIN(nn.Module):
    """Coarse stage, refinement stage and back projection; see the module's docstring for shapes and ranges.

    Raises ValueError for a width that is no multiple of 4 and for fewer than 3 halvings.
    """

    def __init__(self, config: DeepGINConfig) -> None:
        super().__init__()
        if config.width % 4:
            raise ValueError(f"width is {config.width}: use a multiple of 4, the SPD blocks split it into branches")
        if config.num_halvings < 3:
            raise ValueError(f"num_halvings is {config.num_halvings}: use 3 or more, the skips need them")
        self.config = config
        self.coarse = CoarseGenerator(config)
        self.refinement = None if config.coarse_only else RefinementGenerator(config)
        self.multiple_px = 1 << config.num_halvings
        """Divisor of valid heights and widths."""
        initialize_kaiming(self, config.initial_scale)  # outputs of the SA blocks included, as in the code

    def forward(
        self, image: Tensor, mask: Tensor, segmentation: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW, map N3HW -> coarse, low, predicted, inpainted.

        Pixels under the mask are not read. A network of track 2 without a map sees a black one; others ignore the map.
        A residual network adds to `base` N3HW, by default a smooth fill.
        """
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        condition = [mask]
        if self.config.segmentation:
            condition.append(torch.zeros_like(image) if segmentation is None else segmentation)
        # First guess.
        painted = paint_hole(known, mask, base, self.config.smoothing_sweeps) if self.config.residual else known + mask
        coarse = self._add_base(self.coarse(torch.cat([painted, *condition], dim=1)), painted, mask)
        if self.refinement is None:
            return {"predicted": coarse, "inpainted": coarse * mask + known}
        # Refinement.
        guess = coarse * mask + known
        detail, correction = self.refinement(torch.cat([guess, *condition], dim=1))
        detail = self._add_base(detail, guess, mask)
        if correction is None:
            return {"coarse": coarse, "predicted": detail, "inpainted": detail * mask + known}
        # Back projection.
        low, alpha = correction
        low = self._add_base(low, reduce_to(guess, low), F.max_pool2d(mask, self.multiple_px // 4))
        predicted = project_back(detail * mask + known, low, alpha)
        return {"coarse": coarse, "low": low, "predicted": predicted, "inpainted": predicted * mask + known}

    def _add_base(self, raw: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """Add the output of a stage N3HW to `base` in the hole N1HW if the network is residual."""
        return base + raw * mask if self.config.residual else raw


def project_back(detail: Tensor, low: Tensor, alpha: Tensor) -> Tensor:
    """Add to `detail` N3HW its difference from `low` N3hw at that resolution, times `alpha` N1HW (section 4.1)."""
    back = F.interpolate(low - reduce_to(detail, low), size=detail.shape[2:], mode="bilinear", align_corners=True)
    return detail + alpha * back
