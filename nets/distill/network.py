"""The networks of DGI: the inpainting network IN, which runs at inference, and the auxiliary network AN, which teaches.

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; AN takes the picture alone. H and W are multiples of 2
to the number of levels, which is three in the paper. Out: a dict with `predicted` and `inpainted` N3HW in [0, 1], and
the features that are compared: `encoded_<level>` N C h w after the completion block, `decoded_<level>` N C h w,
`query_<level>` and `key_<level>` of each attention, level 1 the finest.

The paper fixes levels, completion block, attention and fusion (sections 3.1 to 3.3). No code is public and the layer
table of its supplement is lost, so widths, depths and initial weights are ours: IN has 5,280,508 parameters, AN
5,213,187. One width at all levels makes the sharing of kernel and offset predictors literal, and AN under-complete:
131,072 values in the middle for a picture of 196,608. There are no skip connections and no normalisation.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distill.blocks import Affinity, DecoderLevel, ResidualBlock, UpBlock
from nets.layers.adaptive import AdaptiveConvolution
from nets.layers.checkpointing import maybe_checkpoint
from nets.layers.convolution import add_activation, initialize_kaiming, scale_init
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole


@dataclass(frozen=True)
class DistillConfig:
    """The size of both networks and the parts of IN; the defaults are the final model, Net8, with our widths."""

    width: int = 128
    """Channels at every level."""
    stem_width: int = 64
    """Channels at full resolution."""
    encoder_blocks: tuple[int, ...] = (2, 2, 4)
    """Residual blocks of each level of the encoder; their number is that of the levels."""
    decoder_blocks: int = 2
    """Residual blocks of each level of the decoder."""
    key_pooling: tuple[int, ...] = (2, 1, 1)
    """Squares over which the keys of each level's attention are averaged; 0: no attention and no fusion there. In full,
    attention at 128x128 would have 2.7e8 shares a picture."""
    completion: bool = True
    """CB: completion blocks in the encoder (Eq. 5)."""
    attention: bool = True
    """Att: attention in the decoder (Eqs. 7 and 8); AN has it always."""
    fusion: bool = True
    """PGL: attention fused with adaptive convolution (Eq. 10)."""
    matched: bool = False
    """Two residual blocks more, so wide that the count of parameters is that of Net8 (section 4.1, Baseline)."""
    additive_fusion: bool = True
    """Attention and fusion add to the decoder's features, which is ours; false: they replace them, as printed."""
    residual: bool = False
    """Ours, for short trainings: IN adds to a smooth fill, in the hole alone, as errors of known pixels would teach it
    above all to add nothing; else it makes the whole picture by a sigmoid."""
    checkpointing: bool = False
    """Backward runs encoder levels anew instead of keeping their features: less memory, more time."""

    def __post_init__(self) -> None:
        if len(self.key_pooling) != len(self.encoder_blocks):
            raise ValueError(
                f"key_pooling is {self.key_pooling}, encoder_blocks {self.encoder_blocks}: give each level one of both"
            )
        if min(self.key_pooling) < 0:
            raise ValueError(f"key_pooling is {self.key_pooling}: take 0 for no attention, or the side of a square")
        if self.fusion and not self.attention:
            raise ValueError("fusion is on and attention off: PGL fuses attention with adaptive convolution, set both")

    @property
    def num_levels(self) -> int:
        """Halvings of the encoder."""
        return len(self.encoder_blocks)

    @property
    def attended_levels(self) -> tuple[int, ...]:
        """The levels of the decoder with attention, from 1."""
        return tuple(level for level, pooling in enumerate(self.key_pooling, start=1) if pooling)


class Backbone(nn.Module):
    """The encoder-decoder of both networks: N C HW -> raw picture N3HW and the features by name."""

    def __init__(self, channels_in: int, config: DistillConfig) -> None:
        super().__init__()
        c, stem = config.width, config.stem_width
        self.config = config
        self.stem = add_activation(nn.Conv2d(channels_in, stem, 5, padding=2))
        self.encoder = nn.ModuleList(
            nn.Sequential(
                add_activation(nn.Conv2d(c if level else stem, c, 4, stride=2, padding=1)),
                *(ResidualBlock(c) for _ in range(num_blocks)),
            )
            for level, num_blocks in enumerate(config.encoder_blocks)
        )
        poolings = config.key_pooling if config.attention else (0,) * config.num_levels
        self.decoder = nn.ModuleList(
            DecoderLevel(c, config.decoder_blocks, pooling, fused=config.fusion, additive_fusion=config.additive_fusion)
            for pooling in poolings
        )
        self.ups = nn.ModuleList(UpBlock(c, stem if level == 0 else c) for level in range(config.num_levels))
        self.picture = nn.Conv2d(stem, 3, 3, padding=1)
        self.completion = AdaptiveConvolution(c) if config.completion else None
        self.local = AdaptiveConvolution(c) if config.fusion and any(poolings) else None
        self.more_encoder, self.more_decoder = _matching_blocks(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """N C HW and, for completion blocks, hole N1HW -> N3HW, unbounded, and the features."""
        features: dict[str, Tensor] = {}
        x = self.stem(x)
        for level, layers in enumerate(self.encoder, start=1):
            x = maybe_checkpoint(layers, x, checkpointing=self.config.checkpointing)
            if self.completion is not None and mask is not None:
                mask = F.max_pool2d(mask, 2)
                x = x + self.completion(x) * mask
            features[f"encoded_{level}"] = x
        x = self.more_encoder(x)
        for level in range(self.config.num_levels, 0, -1):
            found = self.decoder[level - 1](x, self.local)
            x = found.pop("output")
            features |= {f"{name}_{level}": feature for name, feature in found.items()}
            x = self.ups[level - 1](self.more_decoder(x) if level == self.config.num_levels else x)
        return self.picture(x), features

    def initialise(self) -> None:
        """Kaiming's weights where activations follow, torch's own for queries and keys, little from what is added.

        Where fusion replaces features, adaptive convolution begins as a box filter, so that they pass.
        """
        initialize_kaiming(self, 1.0)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                scale_init(module.outer)
            elif isinstance(module, Affinity):
                module.query.reset_parameters()
                module.key.reset_parameters()
            elif isinstance(module, DecoderLevel):
                module.begin_fusion()
            elif isinstance(module, AdaptiveConvolution):
                module.begin_near_zero()
        if self.local is not None and not self.config.additive_fusion:
            self.local.begin_as_box()
        scale_init(self.picture)


class InpaintingNetwork(nn.Module):
    """IN; see the module's docstring for shapes and ranges."""

    def __init__(self, config: DistillConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(4, config)
        self.backbone.initialise()
        if config.residual:
            scale_init(self.backbone.picture)  # twice, so that it begins near the smooth fill

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 1 << self.config.num_levels

    def forward(self, image: Tensor, mask: Tensor, base: Tensor | None = None) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW -> predicted, inpainted and features; pixels under the mask are not read.

        `base` N3HW: what a residual network adds to, a smooth fill if not given.
        """
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        painted = paint_hole(known, mask, base) if self.config.residual else known
        raw, features = self.backbone(torch.cat([painted, mask], dim=1), mask)
        predicted = painted + raw * mask if self.config.residual else torch.sigmoid(raw)
        return {"predicted": predicted, "inpainted": predicted * mask + known, **features}


class AuxiliaryNetwork(nn.Module):
    """AN, an autoencoder of whole pictures with attention and without adaptive blocks: N3HW -> predicted, features."""

    def __init__(self, config: DistillConfig) -> None:
        super().__init__()
        plain = replace(config, completion=False, attention=True, fusion=False, matched=False)
        self.backbone = Backbone(3, plain)
        self.backbone.initialise()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Image N3HW in [0, 1] -> predicted N3HW in (0, 1) and features."""
        raw, features = self.backbone(image)
        return {"predicted": torch.sigmoid(raw), **features}


def reduce_hole(mask: Tensor, features: Tensor) -> Tensor:
    """Hole N1HW at the resolution of features N C h w: N1hw, a cell is hole if any of its pixels is."""
    return F.max_pool2d(mask, mask.shape[2] // features.shape[2])


def _matching_blocks(config: DistillConfig) -> tuple[nn.Module, nn.Module]:
    """Residual blocks of 3x3 and of 1x1 convolutions that bring the count of parameters nearest to Net8's."""
    missing = _num_adaptive(replace(config, completion=True, attention=True, fusion=True)) - _num_adaptive(config)
    if not config.matched or not missing:
        return nn.Identity(), nn.Identity()
    wide, narrow = find_matching_widths(missing, config.width)
    return ResidualBlock(config.width, wide), ResidualBlock(config.width, narrow, kernel=1)


def find_matching_widths(missing: int, channels: int) -> tuple[int, int]:
    """Hidden widths of a 3x3 and a 1x1 residual block, each at least 1, that together come nearest to `missing`."""
    each, slim = 18 * channels + 1, 2 * channels + 1
    rest = missing - 2 * channels
    pairs = [(wide, max(1, round((rest - wide * each) / slim))) for wide in range(1, max(1, rest // each) + 1)]
    return min(reversed(pairs), key=lambda pair: abs(pair[0] * each + pair[1] * slim - rest))


def _num_adaptive(config: DistillConfig) -> int:
    """Parameters of completion blocks, attention and fusion."""
    c = config.width
    predictors = 3 * (9 * (9 * c + 1))
    levels = len(config.attended_levels)
    attention = levels * 2 * (c + 1) * (c // 2)
    fusion = levels * (9 * c + 1) + predictors * bool(levels)
    return config.completion * predictors + config.attention * attention + config.fusion * fusion
