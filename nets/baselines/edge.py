"""EC: EdgeConnect, generative inpainting with adversarial edge learning (Nazeri et al., 2019), both generators.

In: `image` N3HW in [0, 1], `mask` N1HW in {0, 1}, 1 = hole, and if there is one the edge map N1HW of the whole picture;
H and W multiples of 4. Out: a dict with `predicted` and `inpainted` N3HW, `edge_scores` N1HW before their sigmoid, and
`encoded_1` and `encoded_2` of the second generator, which DGI teaches (Table 3, EC*). Without its first stage, which
draws the edges of the hole, it is EC#. A generator has 10.8 million parameters, about as the authors'.

Ours: edges of pictures that bring none are found by a threshold on Sobel's gradient, the authors' by Canny; no spectral
normalisation of the first generator; no biases before normalisations, which take them off again; the second generator
sees the mask too and both a black hole, theirs has only edges beside the picture and a white one.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.baselines.backbone import CompletionBlocks, encode
from nets.layers.edges import grey, compute_squared_gradient
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole, to_image

_STEEP: Final = 0.1
"""Steepness from which on a pixel counts as an edge; a step from black to white has 1."""


@dataclass(frozen=True)
class ECConfig:
    """The size of both generators; the defaults are the authors'."""

    width: int = 64
    num_blocks: int = 8
    """Residual blocks in the middle."""
    edges: bool = True
    """False: EC#, the second generator alone."""
    completion: bool = False
    """EC* and EC#: DGI's completion blocks in the encoder of the second generator."""
    residual: bool = False
    """Ours, for short trainings: the second generator adds to a smooth fill of the hole."""


class DilatedBlock(nn.Module):
    """x + norm(convolution(ReLU(norm(dilated convolution(x))))), borders mirrored: N C H W -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normed(nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect", bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H W."""
        y: Tensor = x + self.layers(x)
        return y


class EdgeConnectGenerator(nn.Module):
    """Two halvings, residual blocks, two doublings: N C HW -> N C' HW and the features of its halvings."""

    def __init__(self, channels_in: int, channels_out: int, config: ECConfig, *, completion: bool) -> None:
        super().__init__()
        w = config.width
        stem = _normed(nn.Conv2d(channels_in, w, 7, padding=3, padding_mode="reflect", bias=False))
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*stem, *_normed(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False))),
                nn.Sequential(*_normed(nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1, bias=False))),
            ]
        )
        self.completion = CompletionBlocks((2 * w, 4 * w)) if completion else None
        self.decoder = nn.Sequential(
            *(DilatedBlock(4 * w) for _ in range(config.num_blocks)),
            *_normed(nn.ConvTranspose2d(4 * w, 2 * w, 4, stride=2, padding=1, bias=False)),
            *_normed(nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1, bias=False)),
            nn.Conv2d(w, channels_out, 7, padding=3, padding_mode="reflect"),
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """N C HW and hole N1HW -> N C' HW, unbounded, and features."""
        x, features = encode(self.levels, self.completion, x, mask)
        return self.decoder(x), features


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]


class EC(nn.Module):
    """Edge generator and picture generator; see the module's docstring for shapes and ranges."""

    def __init__(self, config: ECConfig) -> None:
        super().__init__()
        self.config = config
        self.edges = EdgeConnectGenerator(3, 1, config, completion=False) if config.edges else None
        self.picture = EdgeConnectGenerator(4 + config.edges, 3, config, completion=config.completion)

    @property
    def taught(self) -> tuple[int, ...]:
        """Channels of the levels that DGI teaches."""
        return 2 * self.config.width, 4 * self.config.width

    @property
    def attended(self) -> tuple[int, ...]:
        """There is no attention."""
        return ()

    @property
    def multiple_px(self) -> int:
        """What divides the heights and widths that it takes."""
        return 4

    def forward(
        self, image: Tensor, mask: Tensor, edge: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW, mask N1HW, edge map N1HW -> predicted, inpainted, features and, of EC, edge_scores.

        `base` N3HW: what a residual network adds to, a smooth fill if not given.
        """
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        painted = paint_hole(known, mask, base) if self.config.residual else known
        given, found = [painted, mask], {}
        if self.edges is not None:
            seen = find_edges(known, mask) if edge is None else edge * (1 - mask)
            scores, _ = self.edges(torch.cat([grey(known), seen, mask], dim=1), mask)
            found = {"edge_scores": scores}
            given.append(torch.sigmoid(scores) * mask + seen)
        raw, features = self.picture(torch.cat(given, dim=1), mask)
        predicted = to_image(raw, painted, mask, self.config.residual)
        return {"predicted": predicted, "inpainted": predicted * mask + known, **found, **features}


def find_edges(image: Tensor, mask: Tensor) -> Tensor:
    """Picture N3HW in [0, 1] and hole N1HW -> N1HW in {0, 1}: steep known pixels; next to a hole there are none."""
    return (compute_squared_gradient(image) > _STEEP**2) * (1 - F.max_pool2d(mask, 3, stride=1, padding=1))
