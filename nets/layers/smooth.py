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
    filled: Tensor = _pull_and_push(known, 1 - mask, num_sweeps, torch.finfo(mask.dtype).tiny)
    return filled


def paint_hole(known: Tensor, mask: Tensor, base: Tensor | None, num_sweeps: int = 0) -> Tensor:
    """Picture N C H W, 0 in the hole, with the hole N1HW painted from `base` N C H W, or smoothly if there is none.

    A base is made at a photo's full size where a network sees the photo in parts: a smooth fill of each part alone
    would not fit those of the others.
    """
    return fill_smoothly(known, mask, num_sweeps) if base is None else known + base * mask


def to_image(raw: Tensor, base: Tensor, mask: Tensor, residual: bool) -> Tensor:
    """What a network gives, N3HW -> picture in [0, 1] by tanh, or with `residual` what is added to the hole of `base`.

    Outside the hole N1HW there is nothing to add, and an error of exactly 0 to be kept would be all that it learns.
    """
    return base + raw * mask / 2 if residual else (torch.tanh(raw) + 1) / 2


# The number of levels depends on the size, which a trace would keep.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _pull_and_push(known: Tensor, weight: Tensor, num_sweeps: int, tiny: float) -> Tensor:
    """Filled N C H W; `known` N C H W is already multiplied by `weight` N1HW in [0, 1].

    Pulls weighted means up to one pixel; what a level does not know is taken from the level above it.
    """
    knowns, weights = [known], [weight]
    while max(known.shape[2], known.shape[3]) > 1:
        sums, shares = F.avg_pool2d(known, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)
        weight = (4 * shares).clamp(max=1)  # one known pixel of four is enough to know the mean
        known = sums / shares.clamp_min(tiny) * weight
        knowns.append(known)
        weights.append(weight)
    filled = known / weight.clamp_min(tiny)
    for level in range(len(knowns) - 2, -1, -1):
        known, weight = knowns[level], weights[level]
        size = [known.shape[2], known.shape[3]]
        spread = F.interpolate(filled, size=size, mode="bilinear", align_corners=False)
        filled = known + spread * (1 - weight)
        for _ in range(num_sweeps):
            filled = known + _neighbors_mean(filled) * (1 - weight)
    return filled


def _neighbors_mean(x: Tensor) -> Tensor:
    """Mean of the four neighbors of each pixel, N C H W -> same; beyond the border is the pixel itself."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    return (rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]) / 4
