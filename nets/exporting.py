"""A generator as one module for programs without Lacuna: any size in, the filled picture out.

In: `image` N3HW in [0, 1] and `mask` N1HW, more than 0 = hole, of any height and width. Out: N3HW in [0, 1], known
pixels unchanged. Other programs load a trace of it: code that depends on the size is in functions that are compiled
instead of traced.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nets.procedures.resize import LEAST_PX, pad_to_multiple


class Exported(nn.Module):
    """Pad the photo to a valid size, fill it, crop it, and restore the known pixels.

    The network gets photo and mask only: it sees no strokes, a black segmentation map, and the mean of the posterior
    for noise.
    """

    def __init__(self, network: Any) -> None:
        """`network` is one of `NETWORKS`."""
        super().__init__()
        self.network: nn.Module = network.eval().requires_grad_(False)
        self.multiple_px: int = network.multiple_px

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Image N3HW in [0, 1], mask N1HW -> filled N3HW in [0, 1]."""
        height, width = image.shape[2:]
        hole = mask > 0
        padded, padded_hole = (pad_to_multiple(x, self.multiple_px, LEAST_PX) for x in (image, hole.to(image.dtype)))
        filled = self.network(padded, padded_hole)["inpainted"][..., :height, :width]
        return torch.where(hole, filled.clamp(0, 1), image)
