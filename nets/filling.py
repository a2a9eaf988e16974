"""A fill of any size from a network of fixed size: the polyphase procedure of DeepGIN (section 4.3).

In: photos and masks, 1 = hole. Out: the photos with their holes filled; outside the hole they are the input, bit for
bit.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PHASES_AT_A_TIME = 32


def fill_levels(network: nn.Module, images: Tensor, masks: Tensor, size_px: int) -> Tensor:
    """Images uint8 NHWC and masks uint8 NHW in {0, 1} -> inpainted uint8 NHWC, known pixels those of the image.

    Pictures of the network's own size go through it as one batch, others one by one by `fill_photo`.
    """
    image, mask = images.permute(0, 3, 1, 2).float() / 255, masks.unsqueeze(1).float()
    with torch.inference_mode():
        if image.shape[2:] == (size_px, size_px):
            filled = network(image, mask)["inpainted"]
        else:
            filled = torch.stack([fill_photo(network, *pair, size_px) for pair in zip(image, mask, strict=True)])
    levels = filled.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return torch.where(masks.unsqueeze(3) > 0, levels, images)


def fill_photo(network: nn.Module, image: Tensor, mask: Tensor, size_px: int) -> Tensor:
    """Image 3HW in [0, 1] and mask 1HW, at least one pixel a side -> 3HW in [0, 1].

    The photo is resized to the nearest multiples of `size_px` (cubic), cut into polyphase pictures of
    `size_px` x `size_px`, filled, put together again and resized back; only hole pixels are taken from it.
    """
    height, width = image.shape[1:]
    target = tuple(max(1, round(length / size_px)) * size_px for length in (height, width))
    resized = _resize(image * (1 - mask) + mask, target)
    holes = _resize(mask, target).ne(0).float() if (height, width) != target else mask
    pictures, masks = to_phases(resized, size_px), to_phases(holes, size_px)
    filled = torch.cat(
        [
            network(pictures[i : i + _PHASES_AT_A_TIME], masks[i : i + _PHASES_AT_A_TIME])["inpainted"]
            for i in range(0, len(pictures), _PHASES_AT_A_TIME)
        ]
    )
    whole = _resize(from_phases(filled, target), (height, width)).clamp(0, 1)
    return torch.where(mask > 0, whole, image)


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
