"""Resizing of pictures and of what lies beside them."""

from torch import Tensor
from torch.nn import functional as F


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """C H W -> C h w, cubic and antialiased; the same tensor where nothing changes."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    return F.interpolate(x[None], size=size, mode="bicubic", align_corners=False, antialias=True)[0]


def resize_strokes(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Strokes C H W in {0, 1} -> C h w in {0, 1}: a thin stroke is kept where the picture gets smaller."""
    if tuple(x.shape[1:]) == tuple(size):
        return x
    smaller = size[0] < x.shape[1] or size[1] < x.shape[2]
    return F.adaptive_max_pool2d(x[None], size)[0] if smaller else F.interpolate(x[None], size, mode="nearest")[0]
