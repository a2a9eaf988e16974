"""A fill of any size from a network of fixed size.

In: photos and masks, 1 = hole. Out: the photos with filled holes; outside the hole they are the input, bit for bit.
The procedure brings photos of other sizes to the network; it is stored with the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from nets.procedures.local import WindowSize, fill_local
from nets.procedures.network import PLAIN, ChallengeSteps, Noise, NonFiniteFillError, Photo
from nets.procedures.polyphase import fill_polyphase
from nets.procedures.whole import fill_whole

__all__ = [
    "LOCAL",
    "NOTHING",
    "PLAIN",
    "PROCEDURES",
    "ChallengeSteps",
    "Noise",
    "NonFiniteFillError",
    "Procedure",
    "ProcedureName",
    "fill_levels",
]

ProcedureName = Literal["local", "polyphase", "whole"]
PROCEDURES: Final[tuple[str, ...]] = get_args(ProcedureName)


@dataclass(frozen=True)
class Procedure:
    """Way in which a network of one size fills photos of other sizes; part of the model's description."""

    name: ProcedureName = "local"
    """`local`: windows around the holes. `polyphase`: DeepGIN's, the whole photo as pictures of interleaved pixels.
    `whole`: the whole photo at once, for networks that take any size."""
    context: float = 2.0
    """Side of a window over the side of its hole's box, for `local`."""
    scale: int = 1
    """Size of scaled windows over the network's own size, for `local`; only networks that take any size allow more
    than 1."""

    def __post_init__(self) -> None:
        if self.name not in PROCEDURES:
            raise ValueError(f"unknown procedure {self.name!r}: use one of {', '.join(PROCEDURES)}")
        if self.context < 1 or self.scale < 1:
            raise ValueError(f"context is {self.context} and scale {self.scale}: use 1 or more")


LOCAL: Final = Procedure()
NOTHING: Final[Mapping[str, Tensor]] = MappingProxyType({})


def fill_levels(
    network: nn.Module,
    images: Tensor,
    masks: Tensor,
    size_px: int,
    procedure: Procedure = LOCAL,
    steps: ChallengeSteps = PLAIN,
    guides: Mapping[str, Tensor] = NOTHING,
    noise: "Callable[[int], Noise] | None" = None,
) -> Tensor:
    """Images uint8 NHWC and masks uint8 NHW in {0, 1} -> inpainted uint8 NHWC, known pixels those of the image.

    All are in CPU memory, wherever the network is. Pictures of the network's own size go through it as one batch,
    others one by one by the procedure. `guides` are further inputs by the names of the network's arguments, of the
    photos' size: `sketch` N1HW in {0, 1}, `segmentation` N3HW in [0, 1]. `noise` maps the number of a photo in the
    batch to its noise; without it probabilistic networks take the mean of their posterior. Raises NonFiniteFillError.
    """
    # Bring each photo together with its further inputs.
    photos = [
        Photo(*pair, {name: x[i] for name, x in guides.items()}, noise(i) if noise else None)
        for i, pair in enumerate(zip(images, masks, strict=True))
    ]
    with torch.inference_mode():
        if images.shape[1:3] == (size_px, size_px):
            return torch.where(masks.unsqueeze(3) > 0, fill_whole(network, photos, steps), images)
        # Fill photos of other sizes one by one.
        filled = []
        for number, photo in enumerate(photos):
            try:
                filled.append(_fill_photo(network, photo, size_px, procedure, steps))
            except NonFiniteFillError:
                raise NonFiniteFillError(number, len(photos)) from None
        return filled[0][None] if len(filled) == 1 else torch.stack(filled)  # a copy of a large photo is large


def _fill_photo(network: Any, photo: Photo, size_px: int, procedure: Procedure, steps: ChallengeSteps) -> Tensor:
    """Fill a photo of another size than the network's -> uint8 HW3, known pixels those of the photo."""
    if procedure.name == "local":
        return fill_local(network, photo, WindowSize(size_px, procedure.scale, procedure.context), steps)
    if procedure.name == "whole":
        levels = fill_whole(network, [photo], steps, network.multiple_px)[0]
    else:
        levels = fill_polyphase(network, photo, size_px, steps)
    return torch.where(photo.hole.unsqueeze(2) > 0, levels, photo.levels)
