"""A generator as one module for programs that know nothing of Lacuna: any size in, the filled picture out.

In: `image` N3HW in [0, 1] and `mask` N1HW, more than 0 = hole, of any height and width. Out: N3HW in [0, 1], known
pixels as they were given. What other programs load is a trace of it: whatever depends on the size stands in functions
that are compiled instead of traced.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nets.procedures.resize import LEAST_PX, pad_to_multiple


class Exported(nn.Module):
    """Pads the photo to what the network takes, fills it, crops, and puts the known pixels back.

    What a network could be given beside photo and mask it is not given: no strokes, a black segmentation map, and
    the mean of the posterior for noise.
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
