"""Weights of the errors of hole pixels: less the farther a pixel is from known ones (GMCNN, Wang et al. 2018).

In: the hole N1HW. Out: its weights N1HW in [0, 1), 0 outside the hole.
"""

from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Blur = Literal["paper", "code"]
"""The GMCNN paper blurs with a Gaussian of 64 pixels and standard deviation 40; its code's parameters make the kernel
of 65 pixels flat to within 0.04 %, a box."""
_ROUNDS: Final = 7
_DEVIATIONS: Final = 1.6
"""Kernel width, less its middle, in standard deviations of the Gaussian: 64 / 40."""


def compute_confidence(mask: Tensor, kernel: int = 65, blur: Blur = "code") -> Tensor:
    """Hole N1HW in {0, 1} -> weights N1HW: seven times w <- (blur of w + (1 - M)) M, from 0, reflection padding.

    Raises ValueError if the kernel is even, or half of it as long as a side of the mask.
    """
    half = kernel // 2
    if kernel % 2 == 0 or half >= min(mask.shape[2:]):
        size = "x".join(map(str, mask.shape[2:]))
        raise ValueError(
            f"the kernel is {kernel} px wide, the mask {size}: use an odd width of less than twice its size"
        )
    profile = _make_profile(kernel, blur).to(mask)
    known, weights = 1 - mask, torch.zeros_like(mask)
    for _ in range(_ROUNDS):
        padded = F.pad(weights + known, (half, half, half, half), mode="reflect")
        weights = F.conv2d(F.conv2d(padded, profile.view(1, 1, -1, 1)), profile.view(1, 1, 1, -1)) * mask
    return weights


def _make_profile(kernel: int, blur: Blur) -> Tensor:
    """Row of the separable kernel; it sums to 1."""
    if blur == "code":
        return torch.full((kernel,), 1 / kernel)
    places = (torch.arange(kernel) - kernel // 2) * (_DEVIATIONS / max(kernel - 1, 1))
    return torch.softmax(-places.square() / 2, dim=0)
