"""Structural similarity (Wang et al. 2004) of one pair, by its map.

In: uint8 HxWx3 and a mask HxW in {0, 1}. Out: means of the map over regions, by name.

With s = x + y and d = x - y, the means and variances of s and d hold all that the similarity needs:
2 mx my = (ms^2 - md^2) / 2, mx^2 + my^2 = (ms^2 + md^2) / 2, and the same for variances. That takes four filtered
planes instead of five. Rounding errors of s then change numerator and denominator alike. Tiles are centered on their
own mean first, so float32 has digits left; where x = y all over a tile's windows, the similarity is 1.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.levels import Levels
from pipelines.evaluation.metrics.names import MIN_SIDE_PX

Window = Literal["gaussian", "uniform"]
Plane = NDArray[Any]
Dtype = type[np.floating[Any]]

BORDER_PX: Final = MIN_SIDE_PX // 2
"""Pixels whose window leaves the picture: there it is mirrored."""
_TILE_PX: Final = {4: 64, 8: 48}
"""Side of tiles by bytes of a number: larger planes are mapped afresh for each result, which takes longer than the
filters."""
_MIN_FAST_PX: Final = 256
"""Holes of fewer pixels are measured in float64: over a few pixels, rounding errors of float32 do not average out."""
_SIGMA: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2
_SAMPLE: Final = MIN_SIDE_PX**2 / (MIN_SIDE_PX**2 - 1)
"""Sample covariance over population covariance of a window: scikit-image's default for uniform windows."""


def measure_gaussian_ssim(image: Levels, mask: Levels, fill: Levels, dtype: Dtype) -> dict[str, float]:
    """SSIM of a Gaussian window, over the full map and over the map without its border."""
    similarity = map_ssim(image, fill, "gaussian", _refine(dtype, mask))
    return {
        "ssim_hole": _average(similarity, mask),
        "ssim_image": _average(similarity),
        "ssim_valid_hole": _average(_cut(similarity), _cut(mask)),
        "ssim_valid_image": _average(_cut(similarity)),
    }


def measure_uniform_ssim(image: Levels, mask: Levels, fill: Levels, dtype: Dtype) -> dict[str, float]:
    """SSIM of a uniform window with sample covariance, over the map without its border."""
    mask = _cut(mask)
    similarity = _cut(map_ssim(image, fill, "uniform", _refine(dtype, mask)))
    return {"ssim_uniform_hole": _average(similarity, mask), "ssim_uniform_image": _average(similarity)}


def map_ssim(image: Levels, fill: Levels, window: Window, dtype: Dtype) -> Plane:
    """Map of the similarity, HxWx3 in [-1, 1]."""
    blur, scale = _BLURS[window](dtype), (_SAMPLE if window == "uniform" else 1.0)
    similarity = np.ones(image.shape, dtype)
    height, width, _ = image.shape
    for tile, around, inside in _list_tiles(height, width, _TILE_PX[similarity.itemsize]):
        one, two = image[around], fill[around]
        if not np.array_equal(one, two):
            similarity[tile] = _compare(one.astype(dtype), two.astype(dtype), blur, scale)[inside]
    return similarity


def _compare(one: Plane, two: Plane, blur: Callable[[Plane], Plane], scale: float) -> Plane:
    """Similarity of levels HxWx3; five pixels at each border see a mirrored picture."""
    # Center the sum, channel by channel.
    total, gap = cv2.add(one, two), cv2.subtract(one, two)
    center = np.round(cv2.mean(total))
    total = cv2.subtract(total, center)
    # Filter levels and squares.
    mean_total, mean_gap = blur(total), blur(gap)
    square_total, square_gap = cv2.multiply(mean_total, mean_total), cv2.multiply(mean_gap, mean_gap)
    variance_total: Plane = blur(cv2.multiply(total, total)) - square_total
    variance_gap = blur(cv2.multiply(gap, gap)) - square_gap
    # Put them together.
    light: Plane = cv2.add(mean_total, center)
    light *= light
    light += 2 * _C1
    variance_total += 2 * _C2 / scale
    above = (light - square_gap) * (variance_total - variance_gap)
    light += square_gap
    variance_total += variance_gap
    light *= variance_total
    above /= light
    return np.asarray(above)


def _refine(dtype: Dtype, mask: Levels) -> Dtype:
    return np.float64 if cv2.countNonZero(mask) < _MIN_FAST_PX else dtype


def _list_tiles(height: int, width: int, side: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    """Yield a tile, the same with the pixels of its windows, and the tile's place in that."""
    rows, columns = _split(height, side), _split(width, side)
    for row in rows:
        for column in columns:
            yield tuple(zip(row, column, strict=True))


def _split(length: int, side: int) -> list[tuple[slice, slice, slice]]:
    count = -(-length // side)
    ends = [length * k // count for k in range(count + 1)]
    parts = []
    for start, end in pairwise(ends):
        low, high = max(0, start - BORDER_PX), min(length, end + BORDER_PX)
        parts.append((slice(start, end), slice(low, high), slice(start - low, end - low)))
    return parts


def _build_gaussian(dtype: Dtype) -> Callable[[Plane], Plane]:
    taps = np.exp(-0.5 * (np.arange(-BORDER_PX, BORDER_PX + 1) / _SIGMA) ** 2)
    kernel = (taps / taps.sum()).astype(dtype)
    return partial(cv2.sepFilter2D, ddepth=-1, kernelX=kernel, kernelY=kernel, borderType=cv2.BORDER_REFLECT)


def _build_uniform(_: Dtype) -> Callable[[Plane], Plane]:
    return partial(cv2.boxFilter, ddepth=-1, ksize=(MIN_SIDE_PX, MIN_SIDE_PX), borderType=cv2.BORDER_REFLECT)


_BLURS: Final = {"gaussian": _build_gaussian, "uniform": _build_uniform}


def _cut(plane: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(plane[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX])


def _average(similarity: Plane, mask: Levels | None = None) -> float:
    """Mean over pixels and channels, in float64; NaN where the mask has no pixel."""
    if mask is not None and not mask.any():
        return float("nan")
    return sum(cv2.mean(similarity, mask)[:3]) / 3
