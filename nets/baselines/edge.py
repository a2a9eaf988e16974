"""EC: EdgeConnect, generative inpainting with adversarial edge learning (Nazeri et al., 2019), both generators.

In: `image` N3HW in [0, 1], `mask` N1HW in {0, 1}, 1 = hole, and optionally the edge map N1HW of the whole picture;
H and W multiples of 4. Out: a dict with `predicted` and `inpainted` N3HW, `edge_scores` N1HW (logits), and `encoded_1`
and `encoded_2` of the second generator, which DGI distills (Table 3, EC*). Without the first generator, which draws
the edges of the hole, it is EC#. A generator has 10.8 million parameters, about as many as the authors'.

Ours: edges of pictures without an edge map come from a threshold on Sobel's gradient, the authors' from Canny; no
spectral norm in the first generator; no biases before normalizations, which would remove them; the second generator
also sees the mask, and both see a black hole; the authors' sees only edges beside the picture and a white hole.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.baselines.backbone import CompletionBlocks, encode_levels
from nets.layers.edges import compute_squared_gradient, to_luma
from nets.layers.sizes import refuse_odd_size
from nets.layers.smooth import paint_hole, to_image

_EDGE_THRESHOLD: Final = 0.1
"""Least length of the gradient at an edge; a step from black to white has 1."""


@dataclass(frozen=True)
class ECConfig:
    """Size of both generators; the defaults are the authors'."""

    width: int = 64
    num_blocks: int = 8
    """Residual blocks in the middle."""
    edges: bool = True
    """Whether the first generator exists; false is EC#."""
    completion: bool = False
    """Completion blocks of DGI in the encoder of the second generator: EC* and EC#."""
    residual: bool = False
    """Ours, for short trainings: the second generator adds to a smooth fill of the hole."""


class DilatedBlock(nn.Module):
    """x + norm(convolution(ReLU(norm(dilated convolution(x))))), reflection padding: N C H W -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_add_norm(nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect", bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layers(x)
        return y


class EdgeConnectGenerator(nn.Module):
    """Two halvings, residual blocks, two doublings: N C HW -> N C' HW and the features after each halving."""

    def __init__(self, channels_in: int, channels_out: int, config: ECConfig, *, completion: bool) -> None:
        super().__init__()
        w = config.width
        stem = _add_norm(nn.Conv2d(channels_in, w, 7, padding=3, padding_mode="reflect", bias=False))
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*stem, *_add_norm(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False))),
                nn.Sequential(*_add_norm(nn.Conv2d(2 * w, 4 * w, 4, stride=2, padding=1, bias=False))),
            ]
        )
        self.completion = CompletionBlocks((2 * w, 4 * w)) if completion else None
        self.decoder = nn.Sequential(
            *(DilatedBlock(4 * w) for _ in range(config.num_blocks)),
            *_add_norm(nn.ConvTranspose2d(4 * w, 2 * w, 4, stride=2, padding=1, bias=False)),
            *_add_norm(nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1, bias=False)),
            nn.Conv2d(w, channels_out, 7, padding=3, padding_mode="reflect"),
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """N C HW and hole N1HW -> N C' HW, unbounded, and features."""
        x, features = encode_levels(self.levels, self.completion, x, mask)
        return self.decoder(x), features


def _add_norm(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]


class EC(nn.Module):
    """Edge generator and picture generator; see the module's docstring for shapes and ranges."""

    def __init__(self, config: ECConfig) -> None:
        super().__init__()
        self.config = config
        self.edges = EdgeConnectGenerator(3, 1, config, completion=False) if config.edges else None
        self.picture = EdgeConnectGenerator(4 + config.edges, 3, config, completion=config.completion)
        self.multiple_px = 4
        """Divisor of valid heights and widths."""
        self.distilled_channels = 2 * config.width, 4 * config.width
        """Channels of the levels that DGI distills."""
        self.attention_channels: tuple[int, ...] = ()
        """Channels before each attention that DGI distills."""

    def forward(
        self, image: Tensor, mask: Tensor, edge: Tensor | None = None, base: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Image N3HW, mask N1HW, edge map N1HW -> predicted, inpainted, features and, for EC, edge_scores.

        A residual network adds to `base` N3HW, by default a smooth fill.
        """
        refuse_odd_size(image, self.multiple_px)
        known = image * (1 - mask)
        painted = paint_hole(known, mask, base) if self.config.residual else known
        inputs, edge_outputs = [painted, mask], {}
        # Draw the edges of the hole.
        if self.edges is not None:
            known_edges = find_edges(known, mask) if edge is None else edge * (1 - mask)
            scores, _ = self.edges(torch.cat([to_luma(known), known_edges, mask], dim=1), mask)
            edge_outputs = {"edge_scores": scores}
            inputs.append(torch.sigmoid(scores) * mask + known_edges)
        # Draw the picture.
        raw, features = self.picture(torch.cat(inputs, dim=1), mask)
        predicted = to_image(raw, painted, mask, self.config.residual)
        return {"predicted": predicted, "inpainted": predicted * mask + known, **edge_outputs, **features}


def find_edges(image: Tensor, mask: Tensor) -> Tensor:
    """Picture N3HW in [0, 1] and hole N1HW -> edges N1HW in {0, 1}, none in the hole or next to it."""
    return (compute_squared_gradient(image) > _EDGE_THRESHOLD**2) * (1 - F.max_pool2d(mask, 3, stride=1, padding=1))
