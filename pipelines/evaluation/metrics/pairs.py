"""Metrics of many pairs at once: a column of numbers for each name.

In: photos, masks and fills of one size, and names of metrics of kind `pair`. Out: float64 columns in the order of the
pairs. No number depends on the other pairs of the call, so workers may share the pairs as they like.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import levels
from pipelines.evaluation.metrics.levels import Levels, measure_gray_levels, measure_levels
from pipelines.evaluation.metrics.names import METRICS, MIN_SIDE_PX, REGISTRY, select_metrics
from pipelines.evaluation.metrics.ssim import BORDER_PX, measure_gaussian_ssim, measure_uniform_ssim
from pipelines.records import UsageError

if TYPE_CHECKING:
    from pipelines.evaluation.metrics.networks import MetricNetworks

Columns = dict[str, NDArray[np.float64]]


def measure_pairs(
    images: Levels,
    masks: Levels,
    fills: Levels,
    names: Sequence[str] = METRICS,
    networks: "MetricNetworks | None" = None,
    *,
    exact: bool = False,
) -> Columns:
    """Metrics of N pairs by name, N each, from photos NHWC, masks NHW in {0, 1} and fills NHWC, all uint8.

    `exact` computes SSIM in float64 instead of float32, which differs by up to 5e-6. Raises UsageError for pictures
    that cannot be measured, for unknown names, for a network that is not loaded, and for a metric that is no finite
    number, with the pair's index.
    """
    methods = {metric.method: metric.network for metric in select_metrics(list(names), "pair")}
    check_pairs(images, masks, fills)
    found = _measure_one_by_one(images, masks, fills, methods, np.float64 if exact else np.float32)
    for network in filter(None, methods.values()):
        if networks is None:
            raise UsageError(f"{network} is not loaded: pass what load_metric_networks returns")
        found |= networks.compare_pairs(network, images, fills, masks if f"{network}_hole" in names else None)
    columns = {name: found[name] for name in names}
    check_finite(columns)
    return columns


def measure(image: Levels, mask: Levels, inpainted: Levels) -> dict[str, float]:
    """Metrics of every scorecard for one pair, in float64."""
    methods = dict.fromkeys(("levels", "gaussian_ssim"))
    found = _measure_one_by_one(image[None], mask[None], inpainted[None], methods, np.float64)
    return {name: float(found[name][0]) for name in METRICS}


def count_pixels(masks: Levels) -> dict[str, NDArray[np.int64]]:
    """Pixels of each region of N masks, by the region's name: the weights of pooled means."""
    return levels.count_pixels(masks, BORDER_PX)


def check_pairs(images: Levels, masks: Levels, fills: Levels) -> None:
    """Raise UsageError, naming the pair where one is at fault, unless these are N pairs that can be measured."""
    for name, pictures in (("photos", images), ("fills", fills)):
        check_pictures(name, pictures)
    if images.shape != fills.shape:
        raise UsageError(f"photos are {images.shape} and fills {fills.shape}: give one fill of a photo's size for each")
    if masks.dtype != np.uint8 or masks.shape != images.shape[:3]:
        raise UsageError(f"masks are {masks.dtype} {masks.shape}: give uint8 {images.shape[:3]}, a mask for each photo")
    for index, mask in enumerate(masks):
        holes = cv2.countNonZero(mask)
        if mask.max() > 1:
            raise UsageError(f"mask {index} holds the value {mask.max()}: give 1 in the hole and 0 elsewhere")
        if holes in {0, mask.size}:
            known = "no hole" if holes == 0 else "no known pixel"
            raise UsageError(f"mask {index} has {known}: leave the pair out")


def check_pictures(name: str, pictures: Levels) -> None:
    """Raise UsageError unless these are colored pictures in levels, NHWC, no smaller than SSIM's window."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise UsageError(f"{name} are {pictures.dtype} {pictures.shape}: give uint8 levels in the shape (N, H, W, 3)")
    if not len(pictures):
        raise UsageError(f"{name} are empty: give one or more")
    if min(pictures.shape[1:3]) < MIN_SIDE_PX:
        height, width = pictures.shape[1:3]
        raise UsageError(f"{name} are {width}x{height} px: height and width must be at least {MIN_SIDE_PX}")


def check_finite(columns: Columns) -> None:
    """Raise UsageError for a number that is not finite, naming its metric and its pair's index."""
    for name, column in columns.items():
        if len(wrong := np.flatnonzero(~np.isfinite(column))):
            is_cut = REGISTRY[name].region == "valid_hole"
            cause = " (its hole lies in the border that the metric cuts)" if is_cut else ""
            raise UsageError(
                f"{name} of pair {wrong[0]} is {column[wrong[0]]}{cause}: leave the pair or the metric out"
            )


def _measure_one_by_one(
    images: Levels, masks: Levels, fills: Levels, methods: dict[str, Any], dtype: type[np.floating[Any]]
) -> Columns:
    """Columns of everything that needs no network."""
    rows = []
    for image, mask, fill in zip(images, masks, fills, strict=True):
        row: dict[str, float] = {}
        if "levels" in methods:
            row |= measure_levels(image, mask, fill)
        if "gray_levels" in methods:
            row |= measure_gray_levels(image, mask, fill)
        if "gaussian_ssim" in methods:
            row |= measure_gaussian_ssim(image, mask, fill, dtype)
        if "uniform_ssim" in methods:
            row |= measure_uniform_ssim(image, mask, fill, dtype)
        rows.append(row)
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
