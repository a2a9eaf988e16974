"""A fill of any size from a network of fixed size.

In: photos and masks, 1 = hole. Out: the photos with their holes filled; outside the hole they are the input, bit for
bit. How a photo of another size comes to the network is a procedure, and data of the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from nets.procedures.local import fill_local
from nets.procedures.network import PLAIN, ChallengeSteps, NetworkInput, Noise, inpaint
from nets.procedures.polyphase import fill_polyphase
from nets.procedures.resize import resize

ProcedureName = Literal["local", "polyphase", "whole"]
PROCEDURES: Final[tuple[str, ...]] = get_args(ProcedureName)


@dataclass(frozen=True)
class Procedure:
    """How a network of one size fills photos of other sizes; stands beside the network in its description."""

    name: ProcedureName = "local"
    """`local`: windows around the holes. `polyphase`: DeepGIN's, the whole photo as pictures of interleaved pixels.
    `whole`: the whole photo at once, for networks that take any size."""
    context: float = 2.0
    """Side of a window over that of its hole's box, for `local`."""

    def __post_init__(self) -> None:
        if self.name not in PROCEDURES:
            raise ValueError(f"unknown procedure {self.name!r}: use one of {', '.join(PROCEDURES)}")


LOCAL: Final = Procedure()
NOTHING: Final[Mapping[str, Tensor]] = MappingProxyType({})


class NonFiniteFillError(ArithmeticError):
    """A network's fill has NaN or infinity in the hole; `number` says of which picture of the batch, from 0."""

    def __init__(self, number: int, num_pictures: int) -> None:
        super().__init__(f"the fill of picture {number + 1} of {num_pictures} is not finite: the weights are unusable")
        self.number = number


def fill_levels(
    network: nn.Module,
    images: Tensor,
    masks: Tensor,
    size_px: int,
    procedure: Procedure = LOCAL,
    steps: ChallengeSteps = PLAIN,
    beside: Mapping[str, Tensor] = NOTHING,
    noise: "Callable[[int], Noise] | None" = None,
) -> Tensor:
    """Images uint8 NHWC and masks uint8 NHW in {0, 1} -> inpainted uint8 NHWC, known pixels those of the image.

    They come and go in ordinary memory, wherever the network is. Raises NonFiniteFillError.
    Pictures of the network's own size go through it as one batch, others one by one by the procedure. `beside`: what
    the network takes beside photo and mask, by the names of its arguments, of the photos' size: `sketch` N1HW in
    {0, 1}, `segmentation` N3HW in [0, 1]. `noise`: of a photo of the batch, by its number, for probabilistic networks;
    without it they take the mean of their posterior.
    """
    device = next(network.parameters(), images).device
    beside = {name: x.to(device) for name, x in beside.items()}
    image, mask = images.to(device).permute(0, 3, 1, 2).float() / 255, masks.to(device).unsqueeze(1).float()
    with torch.inference_mode():
        if image.shape[2:] == (size_px, size_px):
            if noise is not None:
                beside["noise"] = torch.stack([noise(i)(0, network.noise_shape(image)) for i in range(len(image))])
            filled = inpaint(network, NetworkInput(image, mask, beside), steps.ensemble)
        else:
            fill = {"local": fill_local, "polyphase": fill_polyphase}[procedure.name]
            filled = torch.stack(
                [
                    fill(
                        network,
                        image[i],
                        mask[i],
                        size_px,
                        steps.ensemble,
                        {name: x[i] for name, x in beside.items()},
                        noise(i) if noise else None,
                    )
                    for i in range(len(image))
                ]
            )
        filled = _finished(filled, steps)
    _refuse_non_finite(filled, mask)
    levels = filled.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
    return torch.where(masks.unsqueeze(3) > 0, levels, images)


def _refuse_non_finite(filled: Tensor, mask: Tensor) -> None:
    """Raise NonFiniteFillError for the first of N3HW that is not finite in its hole N1HW.

    Rounding to levels would make black or white of it, and nobody would know.
    """
    bad = (~filled.isfinite() & (mask > 0)).flatten(1).any(dim=1)
    if bad.any():
        raise NonFiniteFillError(int(bad.int().argmax()), len(bad))


def _finished(filled: Tensor, steps: ChallengeSteps) -> Tensor:
    """N3HW, blurred where the steps say so."""
    height, width = filled.shape[2:]
    if not steps.blur:
        return filled
    halves = [resize(picture, (max(1, height // 2), max(1, width // 2))) for picture in filled]
    return torch.stack([resize(half, (height, width)) for half in halves])
