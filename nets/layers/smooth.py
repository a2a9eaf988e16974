"""A smooth fill of a hole by pull and push over a pyramid (Gortler et al., SIGGRAPH 1996, section 3.6.1).

In: a picture and its mask. Out: the picture with colours from around the hole spread into it; and what a network makes
of it. A file of its own because any network may begin from such a fill and learn only what is to be added to it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def fill_smoothly(known: Tensor, mask: Tensor, num_sweeps: int = 0) -> Tensor:
    """Picture N C H W, 0 in the hole, and mask N1HW in {0, 1} -> N C H W; known pixels stay, no known pixel gives 0.

    With `num_sweeps` each level is relaxed so often by Jacobi's sweep towards the mean of its four neighbors, as in
    the cascadic multigrid method (Bornemann and Deuflhard, Numerische Mathematik 75, 1996): some four bring the fill
    near the harmonic one, whose every pixel of the hole is that mean.
    """
    return _push(known, 1 - mask, num_sweeps)


def paint_hole(known: Tensor, mask: Tensor, base: Tensor | None, num_sweeps: int = 0) -> Tensor:
    """Picture N C H W, 0 in the hole, with the hole N1HW painted from `base` N C H W, or smoothly if there is none.

    A base is made at a photo's full size where a network sees the photo in parts: a smooth fill of each part alone
    would not fit those of the others.
    """
    return fill_smoothly(known, mask, num_sweeps) if base is None else known + base * mask


def as_picture(raw: Tensor, base: Tensor, mask: Tensor, residual: bool) -> Tensor:
    """What a network gives, N3HW -> picture in [0, 1] by tanh, or with `residual` what is added to the hole of `base`.

    Outside the hole N1HW there is nothing to add, and an error of exactly 0 to be kept would be all that it learns.
    """
    return base + raw * mask / 2 if residual else (torch.tanh(raw) + 1) / 2


def _push(known: Tensor, weight: Tensor, num_sweeps: int) -> Tensor:
    """Pulls weighted means up to one pixel; what a level does not know is taken from the level above it.

    `known` N C H W is already multiplied by `weight` N1HW in [0, 1].
    """
    if max(known.shape[2:]) == 1:
        return known / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    sums, weights = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (known, weight))
    certain = (4 * weights).clamp(max=1)  # one known pixel of four is enough to know the mean
    means = sums / weights.clamp_min(torch.finfo(weight.dtype).tiny)
    above = _push(means * certain, certain, num_sweeps)
    spread = F.interpolate(above, size=known.shape[2:], mode="bilinear", align_corners=False)
    filled = known + spread * (1 - weight)
    for _ in range(num_sweeps):
        filled = known + _neighbors_mean(filled) * (1 - weight)
    return filled


def _neighbors_mean(x: Tensor) -> Tensor:
    """Mean of the four neighbors of each pixel, N C H W -> same; beyond the border is the pixel itself."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    return (rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]) / 4
