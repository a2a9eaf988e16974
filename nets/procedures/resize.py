"""Resizing of pictures and of what lies beside them."""

from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """C H W -> C h w, cubic and antialiased; the same tensor where nothing changes."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def resize_plane(plane: Tensor, size: tuple[int, ...]) -> Tensor:
    """What lies beside a photo, C H W -> C h w: thin strokes 1HW stay where it shrinks, colors of maps do not mix."""
    if tuple(plane.shape[1:]) == tuple(size):
        return plane
    if len(plane) == 1 and (size[0] < plane.shape[1] or size[1] < plane.shape[2]):
        return F.adaptive_max_pool2d(plane[None], size)[0]
    return F.interpolate(plane[None], size, mode="nearest-exact")[0]
