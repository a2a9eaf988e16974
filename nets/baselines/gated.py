"""GC: free-form inpainting with gated convolution (Yu et al., ICCV 2019), generator with its contextual attention.

In: `image` N3HW in [0, 1] and `mask` N1HW in {0, 1}, 1 = hole; H and W multiples of 8. Out: a dict with `coarse`,
`predicted` and `inpainted` N3HW, and what DGI teaches: `encoded_1` and `encoded_2` of the coarse network (Table 3,
GC*), and `query_1`, `key_1` and `decoded_1` of the contextual attention (GC-dagger). Width and layers are those of the
authors' release. Ours, so that what is taught is one softmax over rows: scores are not fused with those of neighbours,
keys that touch the hole are left out of the softmax (theirs score 0 in it and are dropped after it), and maps are
halved by means (theirs by every second value). The attention as released is `nets.mhtma.contextual`.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.baselines.backbone import CompletionBlocks, encode
from nets.layers.gated import GatedConvolution, build_encoder_start, build_picture_decoder
from nets.layers.patches import unfold_patches
from nets.layers.precision import disable_autocast
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole, to_image

_SHARPNESS: Final = 10.0
"""Factor on the products of queries with keys of unit length before the softmax."""
_HIDDEN: Final = -1e4
"""Score of keys that touch the hole."""


@dataclass(frozen=True)
class GCConfig:
    """The size of the network; the defaults are those of the authors' release."""

    width: int = 24
    """Channels after the first convolution."""
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    completion: bool = False
    """GC*: DGI's completion blocks in the encoder of the coarse network."""
    residual: bool = False
    """Ours, for short trainings: the networks add to a smooth fill of the hole and to the first guess."""


class ContextualAttention(nn.Module):
    """Replaces 4x4 patches by mixtures of known ones, matched by 3x3 patches at half the resolution; no parameters."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features N C h w, hole N1HW -> attended N C h w, queries and keys N L D, whose last values hide keys."""
        with disable_autocast(x):
            small = F.avg_pool2d(x.float(), 2)
            rows = unfold_patches(small, 3, padding=1)
            touched = F.max_pool2d(F.adaptive_max_pool2d(mask, small.shape[2:]), 3, stride=1, padding=1)
            hidden = _HIDDEN * touched.flatten(2).transpose(1, 2)
            query = torch.cat([rows, torch.ones_like(hidden)], dim=2)
            key = torch.cat([_SHARPNESS * F.normalize(rows, dim=2, eps=1e-4), hidden], dim=2)
            patches = F.unfold(x.float(), 4, padding=1, stride=2)
            shares = torch.softmax(query @ key.transpose(1, 2), dim=2)
            attended = F.fold(patches @ shares.transpose(1, 2), x.shape[2:], 4, padding=1, stride=2) / 4
        return attended.to(x.dtype), query, key


class CoarseNetwork(nn.Module):
    """First guess from picture and mask: N4HW -> N3HW, and the features of its two halvings."""

    def __init__(self, config: GCConfig) -> None:
        super().__init__()
        w = config.width
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    GatedConvolution(4, w, 5), GatedConvolution(w, 2 * w, stride=2), GatedConvolution(2 * w, 2 * w)
                ),
                nn.Sequential(GatedConvolution(2 * w, 4 * w, stride=2), _same(w), _same(w)),
            ]
        )
        self.middle = nn.Sequential(*(_same(w, d) for d in config.dilations), _same(w), _same(w))
        self.decoder = nn.Sequential(*build_picture_decoder(w))
        self.completion = CompletionBlocks((2 * w, 4 * w)) if config.completion else None

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """N4HW and hole N1HW -> N3HW, unbounded, and features."""
        x, features = encode(self.levels, self.completion, x, mask)
        raw: Tensor = self.decoder(self.middle(x))
        return raw, features


class RefinementNetwork(nn.Module):
    """A branch of dilated convolutions and one with attention, joined: N4HW -> N3HW."""

    def __init__(self, config: GCConfig) -> None:
        super().__init__()
        w = config.width
        self.near = nn.Sequential(*build_encoder_start(4, w, 2 * w), _same(w), *(_same(w, d) for d in config.dilations))
        self.far = nn.Sequential(*build_encoder_start(4, w, 4 * w), GatedConvolution(4 * w, 4 * w, activation=F.relu))
        self.attention = ContextualAttention()
        self.after = nn.Sequential(_same(w), _same(w))
        self.join = nn.Sequential(GatedConvolution(8 * w, 4 * w), _same(w))
        self.decoder = nn.Sequential(*build_picture_decoder(w))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """N4HW and the hole whose patches are no keys, N1HW -> N3HW, unbounded, and what the attention compares."""
        near, far = self.near(x), self.far(x)
        attended, query, key = self.attention(far, mask)
        raw = self.decoder(self.join(torch.cat([near, self.after(attended)], dim=1)))
        return raw, {"query_1": query, "key_1": key, "decoded_1": F.avg_pool2d(far, 2)}


def _same(width: int, dilation: int = 1) -> GatedConvolution:
    return GatedConvolution(4 * width, 4 * width, dilation=dilation)


class GC(nn.Module):
    """Coarse and refinement network; see the module's docstring for shapes and ranges."""

    def __init__(self, config: GCConfig) -> None:
        super().__init__()
        self.config = config
        self.coarse = CoarseNetwork(config)
        self.refinement = RefinementNetwork(config)

    @property
    def taught(self) -> tuple[int, ...]:
        """Channels of the levels that DGI teaches."""
        return 2 * self.config.width, 4 * self.config.width

    @property
    def attended(self) -> tuple[int, ...]:
        """Channels before each attention that DGI teaches."""
        return (4 * self.config.width,)

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 8

    def forward(
        self, image: Tensor, mask: Tensor, hidden: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW, mask N1HW -> coarse, predicted, inpainted, features; patches of `hidden` are no keys, else the
        mask's. `base` N3HW: what a residual network adds to, a smooth fill if not given."""
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        painted = paint_hole(known, mask, base) if self.config.residual else known
        raw, features = self.coarse(torch.cat([painted, mask], dim=1), mask)
        coarse = to_image(raw, painted, mask, self.config.residual)
        guess = coarse * mask + known
        raw, shares = self.refinement(torch.cat([guess, mask], dim=1), mask if hidden is None else hidden)
        predicted = to_image(raw, guess, mask, self.config.residual)
        inpainted = predicted * mask + known
        return {"coarse": coarse, "predicted": predicted, "inpainted": inpainted, **features, **shares}
