"""PROTOTYPE"""
import torch
from torch import Tensor
from torch.nn import functional as F

from nets.layers.smooth import fill_smoothly
from nets.procedures.scale import enlarge

P = dict(mode="copy", sigma=2.0, block=8, patch=7, lam=0.02, alpha=1.0, sweeps=2, membrane=True)


def blur(x, sigma):
    r = max(1, int(3 * sigma + .5))
    k = torch.exp(-torch.arange(-r, r + 1).float() ** 2 / (2 * sigma**2))
    k = (k / k.sum()).to(x)
    c = x.shape[1]
    x = F.pad(x, (r, r, r, r), mode="replicate")
    x = F.conv2d(x, k.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
    return F.conv2d(x, k.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)


def restore(image, mask, small, small_mask):
    """image 3HW, mask 1HW full window; small 3hw inpainted, small_mask 1hw."""
    size = image.shape[1:]
    up = enlarge(small, size)
    out = up
    if P["membrane"]:
        off = (image - up) * (1 - mask)
        out = up + fill_smoothly(off[None], mask[None], P["sweeps"])[0]
    if P["mode"] == "copy":
        out = out + P["alpha"] * copied_detail(image, mask, small, small_mask)
    return out * mask + image * (1 - mask)


def copied_detail(image, mask, small, small_mask):
    B, pt, sig = P["block"], P["patch"], P["sigma"]
    h, w = small.shape[1:]
    H, W = image.shape[1:]
    z = blur(small[None], sig)[0]
    # known detail at full size: photo less its blurred
    hole = small_mask
    f = F.unfold(F.pad(z[None], (pt // 2,) * 4, mode="replicate"), pt)[0]  # 3pp, h*w
    near = F.max_pool2d(hole[None], B + 1, stride=1, padding=B // 2)[0, 0]
    ok = (near == 0)
    ok[: B // 2], ok[-(B // 2):], ok[:, : B // 2], ok[:, -(B // 2):] = False, False, False, False
    if not ok.any():
        return torch.zeros_like(image)
    S = B // 2
    gy = torch.arange(0, (h + S - 1) // S + 1) * S
    gx = torch.arange(0, (w + S - 1) // S + 1) * S
    # block centers at multiples of S; used if hole within B/2 of it
    cy, cx = gy.clamp(max=h - 1), gx.clamp(max=w - 1)
    used = F.max_pool2d(hole[None], 2 * S + 1, stride=1, padding=S)[0, 0][cy][:, cx] > 0
    qi = used.nonzero()
    qy, qx = cy[qi[:, 0]], cx[qi[:, 1]]
    src = ok.nonzero()
    q = f[:, qy * w + qx].T
    k = f[:, src[:, 0] * w + src[:, 1]].T
    n = q.shape[1]
    best = torch.empty(len(q), dtype=torch.long)
    for i in range(0, len(q), 512):
        d = (q[i:i + 512].square().sum(1, keepdim=True) - 2 * q[i:i + 512] @ k.T + k.square().sum(1)) / n
        s2 = ((qy[i:i + 512, None] - src[:, 0]).square() + (qx[i:i + 512, None] - src[:, 1]).square()) / max(h, w) ** 2
        best[i:i + 512] = (d + P["lam"] * s2).argmin(1)
    oy = torch.zeros(used.shape); ox = torch.zeros(used.shape)
    oy[qi[:, 0], qi[:, 1]] = (src[best, 0] - qy).float()
    ox[qi[:, 0], qi[:, 1]] = (src[best, 1] - qx).float()
    # full res
    sy, sx = H / h, W / w
    base = blur_known(image, mask, sig * (sy + sx) / 2)
    res = (image - base) * (1 - mask)
    p = mask[0].nonzero()
    y, x = p[:, 0], p[:, 1]
    fy, fx = (y + .5) / sy / S, (x + .5) / sx / S  # in block units
    num = torch.zeros(3, len(p)); den = torch.zeros(len(p)); wsum = torch.zeros(len(p))
    for dy in (0, 1):
        for dx in (0, 1):
            by, bx = (fy.floor().long() + dy).clamp(max=used.shape[0] - 1), (fx.floor().long() + dx).clamp(max=used.shape[1] - 1)
            wy = torch.cos((fy - fy.floor() - dy).abs() * torch.pi / 2) ** 2
            wx = torch.cos((fx - fx.floor() - dx).abs() * torch.pi / 2) ** 2
            ys = (y + (oy[by, bx] * sy).round().long()).clamp(0, H - 1)
            xs = (x + (ox[by, bx] * sx).round().long()).clamp(0, W - 1)
            good = used[by, bx] & (mask[0][ys, xs] == 0)
            wt = wy * wx * good
            num += wt * res[:, ys, xs]; den += wt * wt
    out = torch.zeros_like(image)
    out[:, y, x] = num / den.clamp_min(1e-6).sqrt()
    return out


def blur_known(image, mask, sigma):
    k = 1 - mask
    H, W = image.shape[1:]
    f = max(1, int(sigma / 2))
    if f > 1:
        s = (max(1, H // f), max(1, W // f))
        a = F.interpolate((image * k)[None], size=s, mode="bilinear", antialias=True)
        b = F.interpolate(k[None], size=s, mode="bilinear", antialias=True)
        a, b = blur(a, sigma / f), blur(b, sigma / f)
        o = a / b.clamp_min(1e-3)
        return F.interpolate(o, size=(H, W), mode="bicubic", align_corners=False)[0]
    return (blur((image * k)[None], sigma) / blur(k[None], sigma).clamp_min(1e-3))[0]
