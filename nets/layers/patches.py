"""Square patches of a feature map as rows, and rows back to a map.

In: N C H W. Out: N L D, a row for each place of a patch, and back, in one order of places and values.
"""

from torch import Tensor
from torch.nn import functional as F


def unfold_patches(x: Tensor, size_px: int, padding: int = 0) -> Tensor:
    """Unfold patches at stride 1 in reading order, zeros in the padding: N C H W -> N L (C size size)."""
    return F.unfold(x, size_px, padding=padding).transpose(1, 2)


def fold_patches(patches: Tensor, height: int, width: int, size_px: int) -> Tensor:
    """Fold N HW (C size size) to N C H W: every pixel is the mean of the patches over it."""
    ones = patches.new_ones(1, size_px**2, height * width)
    total, count = (
        F.fold(rows, (height, width), size_px, padding=size_px // 2) for rows in (patches.transpose(1, 2), ones)
    )
    return total / count
