"""The polyphase procedure of DeepGIN (section 6.1): a photo is cut into pictures of the network's size.

In: a photo. Out: its levels, all of them as the network makes them.
"""

from typing import Final

import torch
from torch import Tensor, nn

from nets.procedures.network import (
    ChallengeSteps,
    NetworkInput,
    Photo,
    compute_smooth_base,
    draw_noise,
    finish,
    get_device,
    inpaint,
    to_input,
    to_levels,
)
from nets.procedures.resize import resize, resize_plane

_PHASES_AT_A_TIME: Final = 32


def fill_polyphase(network: nn.Module, photo: Photo, size_px: int, steps: ChallengeSteps) -> Tensor:
    """Photo -> uint8 HW3; raises NonFiniteFillError.

    The photo is resized to the nearest multiples of `size_px` (cubic), cut into polyphase pictures of
    `size_px` x `size_px`, filled, put together again and resized back.
    Ours: the mask is resized as the photo is, and all that the white of the hole has reached is hole; the authors'
    bilinear mask is narrower. The smooth fill that a residual network adds to is made once, at the photo's size: fills
    of single phases differ, and the differences stand in the photo as a grid.
    """
    image, mask = (x[0] for x in to_input(photo.levels[None], photo.hole[None], get_device(network)))
    target = tuple(max(1, round(length / size_px)) * size_px for length in image.shape[1:])
    resized = resize(image * (1 - mask) + mask, target)
    holes = resize(mask, target).ne(0).float() if image.shape[1:] != target else mask
    planes = {name: resize_plane(plane.to(image), target) for name, plane in photo.guides.items()}
    planes |= {name: base[0] for name, base in compute_smooth_base(network, resized[None], holes[None]).items()}
    phases = {name: to_phases(plane, size_px) for name, plane in planes.items()}
    pictures, masks = to_phases(resized, size_px), to_phases(holes, size_px)
    if photo.noise is not None:
        phases["noise"] = draw_noise(network, pictures, [(photo.noise, number) for number in range(len(pictures))])
    filled = []
    for start in range(0, len(pictures), _PHASES_AT_A_TIME):
        some = slice(start, start + _PHASES_AT_A_TIME)
        guides = {name: x[some] for name, x in phases.items()}
        filled.append(inpaint(network, NetworkInput(pictures[some], masks[some], guides), steps))
    whole = resize(from_phases(torch.cat(filled), target), image.shape[1:])
    return to_levels(finish(whole[None], steps), mask[None], steps)[0]


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
