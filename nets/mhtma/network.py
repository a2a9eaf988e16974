"""The generator of MHTMA: what runs at inference (Zhou, Zeng, Gong, arXiv 2302.06130, sections III and IV-F).

In: `image` N3HW in [0, 1], `mask` N1HW in {0, 1}, 1 = hole, and for the sketch-guided variant `sketch` N1HW in [0, 1],
of which only what lies in the hole is read; H and W multiples of 4 (8 with contextual attention), the paper's are 256.
Out: a dict with `coarse`, `predicted` and `inpainted` N3HW in [0, 1] (not clamped with `residual`), and `temperatures`
N x heads. Inside pictures are in [-1, 1] and the hole has ImageNet's mean colour. At width 48 the generator has
16,169,624 parameters, at 24 it has DeepFillv2's size, 4,052,816. The published text lost its numbers and there is no
code: layers are DeepFillv2's (Yu et al., ICCV 2019) where it does not say, at twice its width, which is ours.
"""

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.features import IMAGENET_MEAN
from nets.layers.checkpointing import maybe_checkpoint
from nets.layers.convolution import initialize_kaiming, scale_init
from nets.layers.gated import GatedConvolution, build_encoder_start, build_picture_decoder
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole, to_image
from nets.literals import LiteralChecked
from nets.mhtma.attention import Heads, Matching, TemperatureAttention, TemperatureNetwork
from nets.mhtma.contextual import ContextualAttention

Speaking = Literal["all", "convolution", "attention", "highest-temperature", "lowest-temperature"]
_HEADS: Final[dict[str, Heads]] = {"highest-temperature": "highest", "lowest-temperature": "lowest"}


@dataclass(frozen=True)
class MHTMAConfig(LiteralChecked):
    """The size of the network and its variants; the defaults are the paper's where it tells them."""

    width: int = 48
    """Channels after the first convolution, even; every other width is a multiple of it, the last one half of it."""
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    """Of the gated convolutions in the middle of the coarse network and of the convolution branch."""
    attention: Literal["mhtma", "atma", "contextual"] = "mhtma"
    """Table I: the paper's, its predecessor's with LeakyReLU temperatures, or DeepFillv2's with a constant one."""
    num_heads: int = 2
    """Each with an embedding and a temperature of its own; Fig. 6 shows two. Contextual attention has none."""
    patch_px: int = 3
    """Side of the patches that attention compares, odd."""
    hidden_share: float = 0.0
    """A key is hidden where more than this share of its pixels is missing (Eq. 8); at 0 one missing pixel is enough."""
    hidden_level: float = -1e4
    """Lambda of Eq. 9, the score of hidden keys; so low that they count only where all keys are hidden; so also at
    ATMA's temperatures below 0."""
    attention_residual: bool = False
    """The attention adds to its input instead of replacing it; the paper's and DeepFillv2's do not."""
    sketch: bool = False
    """The sketch-guided variant: a fifth channel with strokes in the hole (section IV-F)."""
    active_heads: Speaking = "all"
    """Fig. 8: the part of the refinement network that is heard at inference; the others give zeros to the decoder."""
    initial_scale: float = 1.6
    """Factor on Kaiming's initial weights; ours, the paper does not tell its own. A gate lets half pass: at 1 features
    shrink a hundredfold through the coarse network, at 1.6 they keep their size."""
    residual: bool = False
    """Ours, for short trainings: in the hole the networks add to a smooth fill and to the first guess; the paper's make
    the whole picture, from a hole of one colour and between -1 and 1 by tanh."""
    checkpointing: bool = False
    """Backward runs encoders and decoder anew instead of keeping their features: less memory, a third more time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.num_heads < 1 or self.patch_px < 1:
            raise ValueError(
                f"width is {self.width}, num_heads {self.num_heads}, patch_px {self.patch_px}: take 1 or more"
            )
        if self.width % 2 or self.width % self.num_heads:
            raise ValueError(
                f"width is {self.width}, num_heads {self.num_heads}: take an even width that the heads divide"
            )
        if self.patch_px % 2 == 0:
            raise ValueError(f"patch_px is {self.patch_px}: take an odd number, a patch lies around a pixel")
        if self.attention == "contextual" and self.active_heads in _HEADS:
            raise ValueError(f"speaking is {self.active_heads!r}: contextual attention has one temperature only")

    @property
    def channels_in(self) -> int:
        """Colours, mask and, where there are any, strokes."""
        return 5 if self.sketch else 4


def _dilated(config: MHTMAConfig) -> list[nn.Module]:
    channels = 4 * config.width
    return [GatedConvolution(channels, channels, dilation=d) for d in config.dilations]


def build_coarse_network(config: MHTMAConfig) -> nn.Sequential:
    """Gated at both ends, dilated in the middle (section III-A): painted picture and condition N C HW -> N3HW."""
    w = config.width
    return nn.Sequential(
        GatedConvolution(config.channels_in, w, 5),
        GatedConvolution(w, 2 * w, stride=2),
        GatedConvolution(2 * w, 2 * w),
        GatedConvolution(2 * w, 4 * w, stride=2),
        *(GatedConvolution(4 * w, 4 * w) for _ in range(2)),
        *_dilated(config),
        *(GatedConvolution(4 * w, 4 * w) for _ in range(2)),
        *build_picture_decoder(w),
    )


def _attention_of(config: MHTMAConfig) -> TemperatureAttention | ContextualAttention:
    if config.attention == "contextual":
        return ContextualAttention()
    matching = Matching(config.patch_px, config.hidden_share, config.hidden_level, config.attention == "mhtma")
    return TemperatureAttention(4 * config.width, config.num_heads, matching, residual=config.attention_residual)


class RefinementNetwork(nn.Module):
    """Two encoders side by side and one decoder (section III-A): composited first guess -> picture N3HW, unbounded."""

    def __init__(self, config: MHTMAConfig) -> None:
        super().__init__()
        w = config.width
        self.config = config
        self.convolution_encoder = nn.Sequential(
            *build_encoder_start(config.channels_in, w, 2 * w), GatedConvolution(4 * w, 4 * w), *_dilated(config)
        )
        self.attention_encoder = nn.Sequential(
            *build_encoder_start(config.channels_in, w, 4 * w), GatedConvolution(4 * w, 4 * w, activation=F.relu)
        )
        self.attention = _attention_of(config)
        self.after_attention = nn.Sequential(*(GatedConvolution(4 * w, 4 * w) for _ in range(2)))
        self.decoder = nn.Sequential(GatedConvolution(8 * w, 4 * w), *build_picture_decoder(w))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """N C HW and hole N1HW -> picture N3HW and temperatures N x heads."""
        active_heads, keep = self.config.active_heads, self.config.checkpointing
        near = maybe_checkpoint(self.convolution_encoder, x, checkpointing=keep)
        far, temperatures = self._attend(maybe_checkpoint(self.attention_encoder, x, checkpointing=keep), mask)
        if active_heads == "convolution":
            far = torch.zeros_like(far)
        elif active_heads != "all":
            near = torch.zeros_like(near)
        return maybe_checkpoint(self.decoder, torch.cat([near, far], dim=1), checkpointing=keep), temperatures

    def _attend(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.attention, ContextualAttention):
            attended, temperatures = self.attention(features, mask)
        else:
            attended, temperatures = self.attention(features, mask, _HEADS.get(self.config.active_heads, "all"))
        return self.after_attention(attended), temperatures


class MHTMA(nn.Module):
    """Coarse and refinement network; see the module's docstring for shapes and ranges."""

    colour: Tensor

    def __init__(self, config: MHTMAConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = build_coarse_network(config)
        self.refinement = RefinementNetwork(config)
        self.register_buffer("colour", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        initialize_kaiming(self, config.initial_scale)
        for layer in self.modules():
            if isinstance(layer, TemperatureNetwork):
                initialize_kaiming(layer, 1.0)  # it has no gates, and all temperatures are to begin alike
        if config.residual:
            for last in (self.coarse[-1], self.refinement.decoder[-1]):
                scale_init(
                    last, 0.01
                )  # at a tenth, gates before it close for long, as what passes them is wrong at first

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 8 if self.config.attention == "contextual" else 4

    def forward(
        self, image: Tensor, mask: Tensor, sketch: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW in [0, 1], mask N1HW, sketch N1HW (no strokes if not given) -> coarse, predicted, inpainted,
        temperatures; neither pixels under the mask nor strokes outside it are read; raises ValueError on strokes for a
        network that takes none. `base` N3HW: what a residual network adds to, a smooth fill if not given."""
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        painted = paint_hole(known, mask, base) if self.config.residual else known + self.colour * mask
        condition, residual = self._condition(mask, sketch), self.config.residual
        drawn = maybe_checkpoint(self.coarse, _signed(painted, condition), checkpointing=self.config.checkpointing)
        coarse = to_image(drawn, painted, mask, residual)
        guess = coarse * mask + known
        raw, temperatures = self.refinement(_signed(guess, condition), mask)
        predicted = to_image(raw, guess, mask, residual)
        inpainted = predicted * mask + known
        return {"coarse": coarse, "predicted": predicted, "inpainted": inpainted, "temperatures": temperatures}

    def _condition(self, mask: Tensor, sketch: Tensor | None) -> Tensor:
        if not self.config.sketch:
            if sketch is not None:
                raise ValueError("a sketch is given to a network without its channel: take a config with sketch=True")
            return mask
        return torch.cat([mask, torch.zeros_like(mask) if sketch is None else sketch * mask], dim=1)


def _signed(picture: Tensor, condition: Tensor) -> Tensor:
    """Picture from [0, 1] to [-1, 1], condition as it is."""
    return torch.cat([2 * picture - 1, condition], dim=1)
