"""Means of a column of pairs, each by its name: over pairs, over bins, and pooled over pixels.

In: float64 columns in any order. Out: one number. Sums are exactly rounded, so neither the order of the pairs nor the
number of workers changes a digit.
"""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.levels import compute_psnr
from pipelines.evaluation.metrics.names import REGISTRY
from pipelines.records import UsageError

AGGREGATES: Final = ("mean_over_pairs", "mean_of_bin_means", "pooled")


def average_pairs(column: NDArray[np.float64]) -> float:
    """`mean_over_pairs`: each pair counts the same. Raises UsageError for no pair."""
    if not len(column):
        raise UsageError("there is no pair to average: choose a split or bins with pairs")
    return fsum(column) / len(column)


def average_bins(column: NDArray[np.float64], bins: Sequence[Any]) -> float:
    """`mean_of_bin_means`: each bin counts the same; `bins` labels the pairs, and bins without a pair do not count.

    Raises UsageError for no pair.
    """
    labels = list(bins)
    members = [column[[label == wanted for label in labels]] for wanted in dict.fromkeys(labels)]
    return average_pairs(np.array([average_pairs(part) for part in members]))


def pool_pixels(
    name: str, columns: Mapping[str, NDArray[np.float64]], counts: Mapping[str, NDArray[np.int64]]
) -> float:
    """`pooled`: each pixel counts the same; PSNR is that of the pooled squared error, its cap applied at the end.

    `counts` is what `count_pixels` returns. Raises UsageError for a metric that is no mean over pixels, and for PSNR
    without `mse_hole` or `mse_image` beside it.
    """
    metric = REGISTRY.get(name)
    if metric is None or metric.kind != "pair" or name in {"lpips_alex_image", "lpips_vgg_image"}:
        raise UsageError(f"{name} is no mean over pixels: pooled is not defined for it, use mean_over_pairs")
    source = name.replace("psnr", "mse")
    if source not in columns:
        raise UsageError(f"pooled {name} needs the column {source}: measure it, too")
    weights = counts[metric.region]
    total = fsum(value * weight for value, weight in zip(columns[source].tolist(), weights.tolist(), strict=True))
    mean = total / int(weights.sum())
    return compute_psnr(mean) if name.startswith("psnr") else mean
