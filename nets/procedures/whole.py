"""The whole photo through the network at once, padded to a size that it takes.

In: photos of one size. Out: their levels as the network makes them. What papers call scores at the original size is
made so; memory grows with the photo.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nets.procedures.network import (
    ChallengeSteps,
    NetworkInput,
    Photo,
    draw_noise,
    finish,
    get_device,
    inpaint,
    to_input,
    to_levels,
)
from nets.procedures.resize import LEAST_PX, pad_to_multiple


def fill_whole(network: nn.Module, photos: Sequence[Photo], steps: ChallengeSteps, multiple_px: int = 1) -> Tensor:
    """Photos of one size -> uint8 NHW3, filled as one batch; beyond their ends they go on as they end there.

    Height and width are padded to multiples of `multiple_px`, to 64 at least unless that is 1. Raises
    NonFiniteFillError.
    """
    device = get_device(network)
    image, mask = to_input(torch.stack([p.levels for p in photos]), torch.stack([p.hole for p in photos]), device)
    height, width = image.shape[2:]
    least = LEAST_PX if multiple_px > 1 else 1
    planes = {name: torch.stack([p.guides[name] for p in photos]).to(device) for name in photos[0].guides}
    planes = {name: pad_to_multiple(x, multiple_px, least) for name, x in planes.items()}
    padded, hole = (pad_to_multiple(x, multiple_px, least) for x in (image, mask))
    if photos[0].noise is not None:
        planes["noise"] = draw_noise(network, padded, [(p.noise, 0) for p in photos if p.noise is not None])
    pictures = NetworkInput(padded, hole, planes)
    return to_levels(finish(inpaint(network, pictures, steps)[..., :height, :width], steps), mask, steps)
