"""The whole photo through the network at once, padded to a size that it takes.

In: photos of one size. Out: their levels as the network makes them. What papers call scores at the original size is
made so; memory grows with the photo.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.procedures.network import (
    ChallengeSteps,
    NetworkInput,
    Photo,
    device_of,
    draw_noise,
    finish,
    inpaint,
    to_input,
    to_levels,
)

_LEAST_PX: Final = 64
"""Below it some networks have features too small to be mirrored at their ends."""


def fill_whole(network: nn.Module, photos: Sequence[Photo], steps: ChallengeSteps, multiple_px: int = 1) -> Tensor:
    """Photos of one size -> uint8 NHW3, filled as one batch; beyond their ends they go on as they end there.

    Height and width are padded to multiples of `multiple_px`, to 64 at least unless that is 1. Raises
    NonFiniteFillError.
    """
    device = device_of(network)
    image, mask = to_input(torch.stack([p.levels for p in photos]), torch.stack([p.hole for p in photos]), device)
    height, width = image.shape[2:]
    below, right = (_padded(length, multiple_px) - length for length in (height, width))
    planes = {name: torch.stack([p.beside[name] for p in photos]).to(device) for name in photos[0].beside}
    planes = {name: F.pad(x, (0, right, 0, below), mode="replicate") for name, x in planes.items()}
    padded = F.pad(image, (0, right, 0, below), mode="replicate")
    if photos[0].noise is not None:
        planes["noise"] = draw_noise(network, padded, [(p.noise, 0) for p in photos if p.noise is not None])
    pictures = NetworkInput(padded, F.pad(mask, (0, right, 0, below), mode="replicate"), planes)
    return to_levels(finish(inpaint(network, pictures, steps)[..., :height, :width], steps), mask)


def _padded(length: int, multiple_px: int) -> int:
    """The least multiple that is not below it."""
    return length if multiple_px == 1 else -(-max(length, _LEAST_PX) // multiple_px) * multiple_px
