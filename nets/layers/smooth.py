"""A smooth fill of a hole by pull and push over a pyramid (Gortler et al., SIGGRAPH 1996, section 3.6.1).

In: a picture and its mask. Out: the picture with colors from around the hole spread into it. A residual network adds to
such a fill.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def fill_smoothly(known: Tensor, mask: Tensor, num_sweeps: int = 0) -> Tensor:
    """Fill a picture N C H W, 0 in the hole, with mask N1HW in {0, 1}; known pixels stay, without any the fill is 0.

    `num_sweeps` Jacobi sweeps relax each level toward the mean of four neighbors, as in the cascadic multigrid method
    (Bornemann and Deuflhard, Numerische Mathematik 75, 1996): four bring the fill near the harmonic one, in which every
    pixel of the hole is that mean.
    """
    filled: Tensor = _pull_and_push(known, 1 - mask, num_sweeps, torch.finfo(mask.dtype).tiny)
    return filled


def paint_hole(known: Tensor, mask: Tensor, base: Tensor | None, num_sweeps: int = 0) -> Tensor:
    """Paint the hole N1HW of a picture N C H W, 0 in the hole, from `base` N C H W or smoothly.

    If a network sees a photo in parts, the base comes from the whole photo: smooth fills of single parts would not
    match.
    """
    return fill_smoothly(known, mask, num_sweeps) if base is None else known + base * mask


def to_image(raw: Tensor, base: Tensor, mask: Tensor, residual: bool) -> Tensor:
    """Convert raw output N3HW to a picture in [0, 1] by tanh, or with `residual` add it to the hole of `base`.

    Outside the hole N1HW the right addition is exactly 0, and the network would learn little else.
    """
    return base + raw * mask / 2 if residual else (torch.tanh(raw) + 1) / 2


# Tracing would fix the number of levels, which depends on the size.
@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _pull_and_push(known: Tensor, weight: Tensor, num_sweeps: int, tiny: float) -> Tensor:
    """Fill N C H W; `known` N C H W is already multiplied by `weight` N1HW in [0, 1].

    Weighted means go up to one pixel; unknown places of a level come from the level above it.
    """
    # Pull means up.
    knowns, weights = [known], [weight]
    while max(known.shape[2], known.shape[3]) > 1:
        sums, shares = F.avg_pool2d(known, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)
        weight = (4 * shares).clamp(max=1)  # one known pixel of four is enough to know the mean
        known = sums / shares.clamp_min(tiny) * weight
        knowns.append(known)
        weights.append(weight)
    # Push them down.
    filled = known / weight.clamp_min(tiny)
    for level in range(len(knowns) - 2, -1, -1):
        known, weight = knowns[level], weights[level]
        size = [known.shape[2], known.shape[3]]
        spread = F.interpolate(filled, size=size, mode="bilinear", align_corners=False)
        filled = known + spread * (1 - weight)
        for _ in range(num_sweeps):
            filled = known + _average_neighbors(filled) * (1 - weight)
    return filled


def _average_neighbors(x: Tensor) -> Tensor:
    """Mean of the four neighbors of each pixel, N C H W -> same; borders are replicated."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    return (rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]) / 4
