"""The generators of SPN and SPL, which run at inference: prior learner and image generator in one (section 3).

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 4, of 32 for the probabilistic
network, the papers' are 256. Out: a dict with `predicted` and `inpainted` N3HW, `prior_3` (and `prior_2`, `prior_1`)
N C H/4 W/4 (H/2, H), and for the probabilistic network the posterior's `mean` and `deviation`. Holes are white and
`predicted` is in [0, 1]; with `residual` holes are smooth and it is unbounded. The prior learner sees picture and mask
at twice their size, by nearest neighbors. At width 64 SPN has 50,648,835 parameters, with 4 or 12 SPADE blocks
38,845,187 or 62,452,483, probabilistic 68,459,075; SPL has 45,558,159 (the papers also count the heads of the
training). The papers say little about layers: this follows the authors' code, which has the papers' counts.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.checkpointing import maybe_checkpoint
from nets.layers.convolution import scale_init
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole
from nets.spn.blocks import (
    ConcatenatingBlock,
    ProjectingBlock,
    SPADEBlock,
    SPADEProjectingBlock,
    build_down_conv,
    build_reflect_conv,
    build_up_conv,
    chain,
)
from nets.spn.normalization import LearnedRegionNormalization, RegionNormalization
from nets.spn.prior import PriorLearner, Pyramid, Sizes, repeat_samples


@dataclass(frozen=True)
class SPNConfig(Sizes):
    """Sizes and variant of an SPN; the defaults are the paper's deterministic network."""

    num_scales: int = 3
    """Number of priors, from the deepest on (Table 3: all, {64, 128}); 1 is "w/o prior pyramid" of Fig. 7. Scales
    without a prior have plain residual blocks. Table 3's first row, {64}, is SPL."""
    fusion: Literal["spade", "concatenation"] = "spade"
    """Fusion of priors into the image generator; concatenation is "w/o SPADE" of Fig. 7."""
    probabilistic: bool = False
    """Whether the variational module draws priors (section 3.1.2, Table 2)."""


@dataclass(frozen=True)
class SPLConfig(Sizes):
    """Sizes of an SPL; the defaults are the paper's."""


class ImageEncoder(nn.Module):
    """Painted picture N3HW and mask N1HW -> N 4w H/4 W/4; only the region normalizations see the mask.

    In Eq. 7 the mask is an input too, in the authors' code it is not.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [build_reflect_conv(3, width, 7), build_down_conv(width, 2 * width), build_down_conv(2 * width, 4 * width)]
        )
        self.norms = nn.ModuleList(RegionNormalization(width << level) for level in range(3))

    def forward(self, painted: Tensor, mask: Tensor) -> Tensor:
        """N3HW and N1HW -> N 4w H/4 W/4."""
        x = painted
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x), mask))
        return x


class SemanticPriorGenerator(nn.Module):
    """Base of SPN and SPL: both encoders and the fusion at the deepest scale, without decoders."""

    def __init__(self, config: Sizes, prior: PriorLearner, blocks: list[nn.Module], out: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.prior = prior
        self.encoder = ImageEncoder(config.width)
        self.blocks = nn.ModuleList(blocks)
        self.out = out
        self.multiple_px = 4 if prior.variational is None else 32
        """Divisor of valid heights and widths."""
        if config.residual:
            scale_init(out)  # large first additions kill the last ReLU of a decoder for good

    def decode(self, features: Tensor, priors: list[Tensor]) -> Tensor:
        """Decode fused features N 4w H/4 W/4 -> N w H W."""
        raise NotImplementedError

    def _generate(self, image: Tensor, mask: Tensor, noise: Tensor | None, base: Tensor | None) -> dict[str, Tensor]:
        """Generate the outputs of the module's docstring, of KN samples if noise has so many."""
        refuse_odd_size(image, self.multiple_px)
        known, residual = image * (1 - mask), self.config.residual
        painted = paint_hole(known, mask, base) if residual else known + mask
        pyramid: Pyramid = self.prior(_double_size(painted), _double_size(mask), noise)
        deep = pyramid.priors[0]
        features = repeat_samples(self.encoder(painted, mask), deep)
        features = chain(self.blocks, features, deep, checkpointing=self.config.checkpointing)
        raw = self.out(self.decode(features, pyramid.priors))
        hole = repeat_samples(mask, raw)
        predicted = repeat_samples(painted, raw) + hole * raw if residual else (torch.tanh(raw) + 1) / 2
        inpainted = predicted * hole + repeat_samples(known, raw)
        priors = {f"prior_{3 - depth}": prior for depth, prior in enumerate(pyramid.priors)}  # 3 is the deepest
        return {"predicted": predicted, "inpainted": inpainted} | priors | pyramid.posterior


def _double_size(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class SPN(SemanticPriorGenerator):
    """Semantic pyramid network; see the module's docstring for shapes and ranges.

    Raises ValueError for other numbers of scales than 1 to 3.
    """

    def __init__(self, config: SPNConfig) -> None:
        if not 1 <= config.num_scales <= 3:
            raise ValueError(f"num_scales is {config.num_scales}: use 1, 2 or 3")
        w = config.width
        prior = PriorLearner(config, config.num_scales, slope=0.0, variational=config.probabilistic)
        out = nn.Sequential(nn.LeakyReLU(0.2), build_reflect_conv(w, 3, 7))
        super().__init__(config, prior, _build_fusing_blocks(config), out)
        self.probabilistic = config.probabilistic
        self.ups = nn.ModuleList(
            _build_decoding_block(config, 4 * w >> level, with_prior=level < config.num_scales - 1)
            for level in range(2)
        )

    def forward(
        self, image: Tensor, mask: Tensor, noise: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW, noise (KN)(2w)(H/32)(W/32) -> outputs of KN samples, the first N first.

        Pixels under the mask are not read. Without noise a probabilistic network takes the mean of its posterior, and
        K = 1. A residual network adds to `base` N3HW, by default a smooth fill. Raises ValueError for noise in a
        deterministic network or of a wrong shape.
        """
        if noise is not None and not self.probabilistic:
            raise ValueError("the network is deterministic and takes no noise: set probabilistic=True in its config")
        if noise is not None:
            self._refuse_other_noise(image, noise)
        return self._generate(image, mask, noise, base)

    def _refuse_other_noise(self, image: Tensor, noise: Tensor) -> None:
        shape, number = self.get_noise_shape(image), len(image)
        if noise.shape[1:] != shape or len(noise) < number or len(noise) % number:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)} for {number} pictures: give {'x'.join(map(str, shape))} per "
                f"sample, and a multiple of {number} samples"
            )

    def get_noise_shape(self, image: Tensor) -> tuple[int, int, int]:
        """Shape of the noise of one sample for such pictures: 128x8x8 for 256x256."""
        return 2 * self.config.width, image.shape[2] // 32, image.shape[3] // 32

    def decode(self, features: Tensor, priors: list[Tensor]) -> Tensor:
        """Decode by nearest x2 and a block, twice (Eq. 9); the block of a scale without a prior takes none."""
        for level, block in enumerate(self.ups, start=1):
            prior = priors[level : level + 1]
            features = maybe_checkpoint(block, _double_size(features), *prior, checkpointing=self.config.checkpointing)
        return features


def _build_fusing_blocks(config: SPNConfig) -> list[nn.Module]:
    """Build the blocks at the deepest scale, all with the same prior."""
    channels, count = 4 * config.width, config.num_spade_blocks
    if config.fusion == "concatenation":
        return [ConcatenatingBlock(channels, channels, channels) for _ in range(count)]
    return [SPADEBlock(channels, channels, _get_spade_width(config, channels)) for _ in range(count)]


def _build_decoding_block(config: SPNConfig, channels: int, *, with_prior: bool) -> nn.Module:
    """Build a block from `channels` to half of them, as many as the prior of that scale has."""
    half = channels // 2
    if not with_prior:
        return ProjectingBlock(channels, half)
    if config.fusion == "concatenation":
        return ConcatenatingBlock(channels, half, half)
    return SPADEProjectingBlock(channels, half, half, _get_spade_width(config, half))


def _get_spade_width(config: SPNConfig, prior_channels: int) -> int:
    """Channels inside SPADE; in the probabilistic code no more than the prior's."""
    return min(config.spade_width, prior_channels) if config.probabilistic else config.spade_width


class SPL(SemanticPriorGenerator):
    """SPN's predecessor: one prior at the deepest scale and a plain decoder (Zhang et al., IJCAI 2021)."""

    def __init__(self, config: SPLConfig) -> None:
        w = config.width
        prior = PriorLearner(config, 1, slope=0.1, variational=False)
        blocks: list[nn.Module] = [SPADEBlock(4 * w, 4 * w, config.spade_width) for _ in range(config.num_spade_blocks)]
        super().__init__(config, prior, blocks, build_reflect_conv(w, 3, 7))
        self.ups = nn.ModuleList([build_up_conv(4 * w, 2 * w), build_up_conv(2 * w, w)])
        self.norms = nn.ModuleList([LearnedRegionNormalization(), LearnedRegionNormalization()])

    def forward(self, image: Tensor, mask: Tensor, base: Tensor | None = None) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW -> the outputs; pixels under the mask are not read.

        A residual network adds to `base` N3HW, by default a smooth fill.
        """
        return self._generate(image, mask, None, base)

    def decode(self, features: Tensor, priors: list[Tensor]) -> Tensor:
        """Decode by 3x3 convolution, pixel shuffle and learned region normalization, twice, without the prior."""
        for up, norm in zip(self.ups, self.norms, strict=True):
            features = F.relu(norm(up(features)))
        return features
