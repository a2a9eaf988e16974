"""Detail for a fill that lacks it, from what is known around the hole.

In: a picture C h w that was filled at the network's size, and its hole. Out: from where each block of the hole takes
its detail, and the detail. After contextual residual aggregation (Yi et al., CVPR 2020): what is matched at a small
size says whose high frequencies are added at the large one. Ours: blocks take the one best match each and overlap by
half, as means over many would blur; weights of overlapping blocks keep the variance (Heitz and Neyret, HPG 2018).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.layers.smooth import fill_smoothly

STRENGTH: Final = 0.5
"""Factor on detail that is added: at 1 it looks as rich as the photo, and costs more error than it is worth."""
_DEVIATION_PX: Final = 2.0
"""Deviation of the blur, in pixels of the network's own size: a fill is trusted but for the detail that it removes."""
_STEP_PX: Final = 5
"""Distance of the middles of blocks, which are twice as long, in pixels of the network's own size."""
_PATCH: Final = 6
"""Values along a side of what is compared, every second pixel of the network's own size."""
_MOST_KEYS: Final = 2**14
_STRENGTHS: Final = 0.01
"""Squared difference in levels that counts as much as that detail is stronger e times, or weaker."""
_TOGETHER: Final = 0.004
"""Squared difference in levels that counts as much as that a source continues that of the block beside."""
_REUSE: Final = 0.004
"""Squared difference in levels that counts as much as that a source was taken before."""
_FARNESS: Final = 0.1
"""Squared difference in levels of 0 to 1 that counts as much as the length of the window does as distance."""


@dataclass(frozen=True)
class Matches:
    """Sources from which the blocks of a picture take their detail."""

    shifts: Tensor
    """Rows and columns from each block to its source, 2 by blocks down by blocks across, in pixels of the picture."""
    used: Tensor
    """Whether a block has a source, bool."""
    size: tuple[int, ...]
    """Height and width of the picture."""
    scale: int
    """Its size over the network's own."""

    @property
    def step_px(self) -> int:
        """Pixels between the middles of blocks."""
        return _STEP_PX * self.scale


def blur(x: Tensor, scale: int) -> Tensor:
    """C h w, `scale` times the network's own size -> C h w by a Gaussian; beyond its border it goes on as it ends."""
    deviation = _DEVIATION_PX * scale
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-(torch.arange(-reach, reach + 1, device=x.device) / deviation).square() / 2)
    weights = (weights / weights.sum()).to(x.dtype).expand(len(x), 1, 1, -1)
    padded = F.pad(x[None], (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights, groups=len(x))
    return F.conv2d(rows, weights.mT, groups=len(x))[0]


def match_blocks(filled: Tensor, mask: Tensor, scale: int) -> Matches | None:
    """Filled picture 3hw and its hole 1hw -> the sources of its blocks; none where no block is known or none is needed.

    Blurred patches are compared, so that a blurred fill does not match blurred places only, and how strong detail is:
    else what is thin would come into smooth holes. `scale`: the picture's size over the network's own.
    """
    size, step = tuple(mask.shape[1:]), _STEP_PX * scale
    touched = F.max_pool2d(mask, 2 * step + 1, stride=1, padding=step)[0] > 0
    whole = _clear_border(~touched, step)
    keys = whole.nonzero()
    middles = [torch.arange(0, length + step, step, device=mask.device).clamp(max=length - 1) for length in size]
    used = touched[middles[0]][:, middles[1]]
    blocks = used.nonzero()
    if not len(blocks) or not len(keys):
        return None
    keys = keys[:: -(-len(keys) // _MOST_KEYS)]
    queries = torch.stack([middles[axis][blocks[:, axis]] for axis in (0, 1)], dim=1)
    blurred = blur(filled, scale)
    strength = _STRENGTHS**0.5 * _measure_log_amplitude(filled - blurred, whole.to(filled), step)
    compared = torch.cat([_unfold_patches(blurred, scale), strength[0, :, :, None]], dim=2)
    nearest = _find_nearest(compared, queries, keys, step)
    shifts = torch.zeros(2, *used.shape, dtype=torch.int64, device=mask.device)
    shifts[:, blocks[:, 0], blocks[:, 1]] = (keys[nearest] - queries).mT
    return Matches(shifts, used, size, scale)


def _measure_log_amplitude(detail: Tensor, whole: Tensor, step: int) -> Tensor:
    """Detail 3hw, and where a block is known, hw in {0, 1} -> 1hw: logarithm of its amplitude, spread from there."""
    energy = F.avg_pool2d(detail.square().mean(0, keepdim=True), 2 * step + 1, stride=1, padding=step)
    logarithm = energy.clamp_min(torch.finfo(detail.dtype).eps).log() / 2
    return fill_smoothly((logarithm * whole)[None], 1 - whole[None, None])[0]


def add_lacking_detail(filled: Tensor, mask: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
    """Filled picture 3hw and its hole 1hw -> 3hw with the detail that the fill lacks, and the strength of detail 1hw.

    Detail is as strong as that of the sources, but no stronger than that of what is known around the hole would be if
    it went on smoothly into it.
    """
    detail = filled - blur(filled, matches.scale)
    rows, columns = mask[0].nonzero().unbind(1)
    copied = torch.zeros_like(filled)
    for weight, from_rows, from_columns in find_sources(matches, rows, columns, mask):
        copied[:, rows, columns] += weight * detail[:, from_rows, from_columns]
    around = fill_smoothly(_measure_energy(detail, 1 - mask, matches.scale).log()[None] * (1 - mask), mask[None])[
        0
    ].exp()
    theirs, own = _measure_energy(copied, mask, matches.scale), _measure_energy(detail, mask, matches.scale)
    strength = STRENGTH * (around / theirs).clamp(max=1).sqrt()
    return filled + strength * (1 - own / theirs).clamp(0, 1).sqrt() * copied, strength


def _measure_energy(detail: Tensor, where: Tensor, scale: int) -> Tensor:
    """Detail 3hw and 1hw in {0, 1} -> 1hw: the mean square of what is there, around each pixel; above 0."""
    tiny = torch.finfo(detail.dtype).eps
    return blur((detail * where).square().mean(0, keepdim=True), scale).clamp_min(tiny) / blur(where, scale).clamp_min(
        tiny
    )


def find_sources(matches: Matches, rows: Tensor, columns: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Pixels P of a picture with the hole 1HW, which may be larger than what was matched -> for each of the four blocks
    around them: weights P and rows and columns P of the sources.

    Weights keep the variance of details that have nothing to do with each other, and sum to 1 where sources are the
    same. A source that is hole has the weight 0; where all are, all weights are 0.
    """
    size = mask.shape[1:]
    scales = [length / small for length, small in zip(size, matches.size, strict=True)]
    at = [(axis.float() + 0.5) / (scale * matches.step_px) for axis, scale in zip((rows, columns), scales, strict=True)]
    found = []
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        block = [x.floor().long() + step for x, step in zip(at, corner, strict=True)]
        weight = torch.ones_like(at[0])
        for x, step in zip(at, corner, strict=True):
            weight = weight * torch.cos((x.frac() - step) * (torch.pi / 2)).square()
        shift = matches.shifts[:, block[0], block[1]]
        source = [
            (axis + (move * scale).round().long()).clamp(0, length - 1)
            for axis, move, scale, length in zip((rows, columns), shift, scales, size, strict=True)
        ]
        known = matches.used[block[0], block[1]] & (mask[0, source[0], source[1]] == 0)
        found.append((weight * known, *source))
    variance = torch.zeros_like(at[0])
    for weight, *source in found:
        for other, *its_source in found:
            same = (source[0] == its_source[0]) & (source[1] == its_source[1])
            variance += weight * other * same
    norm = variance.sqrt().clamp_min(1e-3)
    return [(weight / norm, *source) for weight, *source in found]


def _clear_border(x: Tensor, step: int) -> Tensor:
    """Bool hw, false where nearer to the border than half a block."""
    inner = torch.zeros_like(x)
    inner[step:-step, step:-step] = x[step:-step, step:-step]
    return inner


def _unfold_patches(x: Tensor, scale: int) -> Tensor:
    """C h w -> h w D: what is compared around each pixel, so scaled that squared differences are means."""
    reach = (_PATCH - 1) * scale
    padded = F.pad(x[None], (reach,) * 4, mode="replicate")
    patches = F.unfold(padded, _PATCH, dilation=2 * scale)[0]
    rows: Tensor = patches.view(len(patches), *x.shape[1:]).permute(1, 2, 0) / len(patches) ** 0.5
    return rows


def _find_nearest(patches: Tensor, queries: Tensor, keys: Tensor, step: int) -> Tensor:
    """Patches h w D, Q and K places with their rows and columns -> number of the key that is nearest to each query.

    In turn: what lies beside the sources of the queries above and to the left is nearer than it looks, so that larger
    pieces are copied; other places near those that were taken before are farther, so that none comes again and again.
    """
    far = (_FARNESS**0.5 / max(patches.shape[:2])) * torch.ones(2, device=patches.device)
    query, key = (torch.cat([patches[p[:, 0], p[:, 1]], p * far], dim=1) for p in (queries, keys))
    length, taken = key.square().sum(1), torch.zeros(len(keys), device=patches.device)
    numbers = torch.full(patches.shape[:2], -1, device=patches.device)
    numbers[keys[:, 0], keys[:, 1]] = torch.arange(len(keys), device=patches.device)
    nearest: list[Tensor] = []
    at: dict[tuple[int, int], list[int]] = {}
    for some in torch.split(torch.arange(len(queries), device=patches.device), 512):
        distances = length - 2 * query[some] @ key.mT + query[some].square().sum(1, keepdim=True)
        for own, (row, column) in zip(distances, queries[some].tolist(), strict=True):
            distance = own + taken
            for down, right in ((step, 0), (0, step)):
                if (before := at.get((row - down, column - right))) is not None:
                    beside = numbers[before[0] + down :, before[1] + right :][:1, :1].flatten()
                    distance[beside[beside >= 0]] = own[beside[beside >= 0]] - _TOGETHER
            nearest.append(distance.argmin())
            at[row, column] = keys[nearest[-1]].tolist()
            taken += _REUSE * torch.exp(-(keys - keys[nearest[-1]]).square().sum(1) / (2 * step**2))
    return torch.stack(nearest)
