"""Metrics of fills: by pair, by set of pictures, by several fills of a pair, and their means.

In: photos, masks and fills as uint8 levels. Out: float64 numbers by name. `metrics.networks`, which loads what LPIPS
and distances of features need, is imported on its own, because it takes torch along.
"""

from pipelines.evaluation.metrics.aggregates import AGGREGATES, average_bins, average_pairs, pool_pixels
from pipelines.evaluation.metrics.names import HIGHER_IS_BETTER, METRICS, MIN_SIDE_PX, REGISTRY, Metric
from pipelines.evaluation.metrics.pairs import count_pixels, measure, measure_pairs
from pipelines.evaluation.metrics.sets import fid, ids, kid, measure_sets

__all__ = [
    "AGGREGATES",
    "HIGHER_IS_BETTER",
    "METRICS",
    "MIN_SIDE_PX",
    "REGISTRY",
    "Metric",
    "average_bins",
    "average_pairs",
    "count_pixels",
    "fid",
    "ids",
    "kid",
    "measure",
    "measure_pairs",
    "measure_sets",
    "pool_pixels",
]
