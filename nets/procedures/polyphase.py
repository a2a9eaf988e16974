"""The polyphase procedure of DeepGIN (section 6.1): a photo is cut into pictures of the network's size.

In: a photo 3HW in [0, 1] and its hole 1HW. Out: 3HW, all of it as the network makes it.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from nets.procedures.network import NetworkInput, Noise, inpaint, smooth_base
from nets.procedures.resize import resize, resize_strokes

_PHASES_AT_A_TIME: Final = 32


def fill_polyphase(
    network: nn.Module,
    image: Tensor,
    mask: Tensor,
    size_px: int,
    ensemble: bool,
    beside: Mapping[str, Tensor],
    noise: "Noise | None",
) -> Tensor:
    """Image 3HW, mask 1HW and planes CHW beside them -> 3HW.

    The photo is resized to the nearest multiples of `size_px` (cubic), cut into polyphase pictures of
    `size_px` x `size_px`, filled, put together again and resized back.
    Ours: the mask is resized as the photo is, and all that the white of the hole has reached is hole; the authors'
    bilinear mask is narrower. The smooth fill that a residual network adds to is made once, at the photo's size: fills
    of single phases differ, and the differences stand in the photo as a grid.
    """
    height, width = image.shape[1:]
    target = tuple(max(1, round(length / size_px)) * size_px for length in (height, width))
    resized = resize(image * (1 - mask) + mask, target)
    holes = resize(mask, target).ne(0).float() if (height, width) != target else mask
    pictures, masks = to_phases(resized, size_px), to_phases(holes, size_px)
    base = smooth_base(network, resized[None], holes[None])
    planes = {name: resize_strokes(plane, target) for name, plane in beside.items()}
    planes |= {name: whole[0] for name, whole in base.items()}
    planes = {name: to_phases(plane, size_px) for name, plane in planes.items()}
    if noise is not None:
        shape = network.noise_shape(pictures)
        planes["noise"] = torch.stack([noise(number, shape) for number in range(len(pictures))])
    filled = [
        inpaint(
            network,
            NetworkInput(pictures[i:j], masks[i:j], {name: plane[i:j] for name, plane in planes.items()}),
            ensemble,
        )
        for i in range(0, len(pictures), _PHASES_AT_A_TIME)
        for j in [i + _PHASES_AT_A_TIME]
    ]
    return resize(from_phases(torch.cat(filled), target), (height, width))


def to_phases(x: Tensor, size_px: int) -> Tensor:
    """C (S*a) (S*b) -> (a*b) C S S: picture (i, j) has the pixels i mod a, j mod b."""
    channels, height, width = x.shape
    rows, columns = height // size_px, width // size_px
    grid = x.reshape(channels, size_px, rows, size_px, columns)
    return grid.permute(2, 4, 0, 1, 3).reshape(rows * columns, channels, size_px, size_px)


def from_phases(phases: Tensor, size: tuple[int, ...]) -> Tensor:
    """The inverse of `to_phases` for a picture of this height and width."""
    _, channels, side, _ = phases.shape
    rows, columns = size[0] // side, size[1] // side
    return phases.reshape(rows, columns, channels, side, side).permute(2, 3, 0, 4, 1).reshape(channels, *size)
