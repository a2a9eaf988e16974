"""A fill of any size from a network of fixed size: the polyphase procedure of DeepGIN (section 6.1).

In: photos and masks, 1 = hole. Out: the photos with their holes filled; outside the hole they are the input, bit for
bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PHASES_AT_A_TIME: Final = 32


@dataclass(frozen=True)
class ChallengeSteps:
    """What the authors' script for the AIM challenge does beside; the paper does not mention it."""

    ensemble: bool = False
    """Take the mean of the predictions for five views of the picture: transposed, that by one, two and three quarter
    turns, and that mirrored."""
    blur: bool = False
    """Halve the size of the filled picture and double it again, both cubic, before hole pixels are taken from it."""


PLAIN: Final = ChallengeSteps()


class NonFiniteFillError(ArithmeticError):
    """A network's fill has NaN or infinity in the hole; `number` says of which picture of the batch, from 0."""

    def __init__(self, number: int, num_pictures: int) -> None:
        super().__init__(f"the fill of picture {number + 1} of {num_pictures} is not finite: the weights are unusable")
        self.number = number


_NOTHING: Final[Mapping[str, Tensor]] = MappingProxyType({})
_VIEWS: Final[tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...]] = (
    (lambda x: x.mT, lambda x: x.mT),
    (lambda x: x.mT.rot90(1, (2, 3)), lambda x: x.rot90(-1, (2, 3)).mT),
    (lambda x: x.mT.rot90(2, (2, 3)), lambda x: x.rot90(-2, (2, 3)).mT),
    (lambda x: x.mT.rot90(3, (2, 3)), lambda x: x.rot90(-3, (2, 3)).mT),
    (lambda x: x.mT.flip(3), lambda x: x.flip(3).mT),
)
"""The ensemble's views of a picture NCHW, there and back.

The authors' script transposes pictures where it cuts them out of a photo, so the network sees the four reflections of
the square and a quarter turn, and never the upright picture. Ours: their script brings each of the five predictions to
whole levels, rounded down, before it takes the mean, and the mean to whole levels, rounded, before it blurs.
"""


def fill_levels(
    network: nn.Module,
    images: Tensor,
    masks: Tensor,
    size_px: int,
    steps: ChallengeSteps = PLAIN,
    beside: Mapping[str, Tensor] = _NOTHING,
) -> Tensor:
    """Images uint8 NHWC and masks uint8 NHW in {0, 1} -> inpainted uint8 NHWC, known pixels those of the image.

    They come and go in ordinary memory, wherever the network is. Raises NonFiniteFillError.
    Pictures of the network's own size go through it as one batch, others one by one by `fill_photo`. `beside`: what the
    network takes beside photo and mask, by the names of its arguments, for pictures of its own size only; with others
    it raises ValueError.
    """
    if beside and images.shape[1:3] != (size_px, size_px):
        raise ValueError(
            f"{', '.join(beside)} for pictures of {images.shape[2]}x{images.shape[1]} px: the network takes such for "
            f"its own size only, {size_px} px"
        )
    device = next(network.parameters(), images).device
    beside = {name: x.to(device) for name, x in beside.items()}
    image, mask = images.to(device).permute(0, 3, 1, 2).float() / 255, masks.to(device).unsqueeze(1).float()
    with torch.inference_mode():
        if image.shape[2:] == (size_px, size_px):
            filled = _finished(_filled(network, image, mask, steps, beside), steps)
        else:
            filled = torch.stack([fill_photo(network, *pair, size_px, steps) for pair in zip(image, mask, strict=True)])
    _refuse_non_finite(filled, mask)
    levels = filled.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
    return torch.where(masks.unsqueeze(3) > 0, levels, images)


def fill_photo(network: nn.Module, image: Tensor, mask: Tensor, size_px: int, steps: ChallengeSteps = PLAIN) -> Tensor:
    """Image 3HW in [0, 1] and mask 1HW, at least one pixel a side -> 3HW, in the hole as far as the network goes.

    The photo is resized to the nearest multiples of `size_px` (cubic), cut into polyphase pictures of
    `size_px` x `size_px`, filled, put together again and resized back; only hole pixels are taken from it.
    Ours: the mask is resized as the photo is, and all that the white of the hole has reached is hole; the authors'
    bilinear mask is narrower.
    """
    height, width = image.shape[1:]
    target = tuple(max(1, round(length / size_px)) * size_px for length in (height, width))
    resized = _resize(image * (1 - mask) + mask, target)
    holes = _resize(mask, target).ne(0).float() if (height, width) != target else mask
    pictures, masks = to_phases(resized, size_px), to_phases(holes, size_px)
    filled = torch.cat(
        [
            _filled(network, pictures[i : i + _PHASES_AT_A_TIME], masks[i : i + _PHASES_AT_A_TIME], steps)
            for i in range(0, len(pictures), _PHASES_AT_A_TIME)
        ]
    )
    whole = _resize(from_phases(filled, target), (height, width))
    return torch.where(mask > 0, _finished(whole[None], steps)[0], image)


def _refuse_non_finite(filled: Tensor, mask: Tensor) -> None:
    """Raise NonFiniteFillError for the first of N3HW that is not finite in its hole N1HW.

    Rounding to levels would make black or white of it, and nobody would know.
    """
    bad = (~filled.isfinite() & (mask > 0)).flatten(1).any(dim=1)
    if bad.any():
        raise NonFiniteFillError(int(bad.int().argmax()), len(bad))


def _filled(
    network: nn.Module, image: Tensor, mask: Tensor, steps: ChallengeSteps, beside: Mapping[str, Tensor] = _NOTHING
) -> Tensor:
    """N3SS as the network inpaints it, or the mean of what it predicts for the five views."""
    if not steps.ensemble:
        inpainted: Tensor = network(image, mask, **beside)["inpainted"]
        return inpainted
    views = []
    for there, back in _VIEWS:
        turned = {name: there(x) for name, x in beside.items()}
        views.append(back(network(there(image), there(mask), **turned)["predicted"]))
    return torch.stack(views).mean(dim=0)


def _finished(filled: Tensor, steps: ChallengeSteps) -> Tensor:
    """N3HW, blurred where the steps say so."""
    height, width = filled.shape[2:]
    if not steps.blur:
        return filled
    halves = [_resize(picture, (max(1, height // 2), max(1, width // 2))) for picture in filled]
    return torch.stack([_resize(half, (height, width)) for half in halves])


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


def _resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """C H W -> C h w, cubic and antialiased; the same tensor where nothing changes."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]
