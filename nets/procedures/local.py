"""PROTOTYPE"""
import torch
from torch import Tensor

from nets.procedures.network import NetworkInput, inpaint, smooth_base
from nets.procedures.windows import group_holes
from nets.procedures import scale, detail


def fill_local(network, image, mask, size_px, ensemble=False, beside={}, noise=None, context=2.0):
    """uint8 HW3, HW -> uint8 HW3"""
    out = image.clone()
    groups = group_holes(mask, size_px, context)
    parts = []
    for g in groups:
        x = image[g.window.place].permute(2, 0, 1).float() / 255
        m = mask[g.window.place][None].float()
        s = scale.small_size(x.shape[1:], size_px)
        small, hole = scale.reduce_known(x, m, s)
        parts.append((x, m, small, hole))
    N = 16
    fills = []
    for i in range(0, len(parts), N):
        xs = torch.stack([scale.mirror_to_square(p[2], size_px) for p in parts[i:i+N]])
        ms = torch.stack([scale.mirror_to_square(p[3], size_px) for p in parts[i:i+N]])
        fills += list(inpaint(network, NetworkInput(xs, ms), ensemble))
    for g, (x, m, small, hole), f in zip(groups, parts, fills):
        f = f[:, :small.shape[1], :small.shape[2]]
        r = detail.restore(x, m, f, hole)
        r = r.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
        o = out[g.window.place]
        o[g.holes] = r[g.holes]
    return out
