"""Two scorecards over the same pairs: is the challenger better, and how sure are we?

A paired bootstrap over photos (a photo's masks are drawn together, they are not independent). Scores whose passports
differ are not compared: the differing field is named.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.evaluation.evaluate import ALL, Scorecard
from pipelines.evaluation.metrics import HIGHER_IS_BETTER
from pipelines.masks.bins import BINS
from pipelines.records import Refused

NUM_RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
MIN_PHOTOS: Final = 5


@dataclass(frozen=True)
class Interval:
    """Mean gain of the challenger over the champion in a bin, and its bootstrap interval; positive is better."""

    gain: float
    low: float
    high: float
    num_pairs: int


@dataclass(frozen=True)
class Comparison:
    """The gains of a challenger in one metric."""

    metric: str
    seed: int
    overall: Interval
    bins: dict[str, Interval]
    """Bins with at least MIN_PHOTOS photos."""

    def as_json(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def compare(challenger: Scorecard, champion: Scorecard, metric: str, seed: int = 0) -> Comparison:
    """Paired gains per bin; raises Refused where the passports differ or the metric is unknown."""
    refuse_unlike(challenger.passport, champion.passport)
    if metric not in HIGHER_IS_BETTER:
        raise Refused(f"unknown metric {metric!r}: known are {', '.join(HIGHER_IS_BETTER)}")
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
    gains = sign * (_column(challenger, metric) - _column(champion, metric))
    photos = np.unique([row["key"] for row in challenger.rows], return_inverse=True)[1]
    if len(set(photos)) < MIN_PHOTOS:
        raise Refused(f"{len(set(photos))} held-out photos are too few to compare by: hold out at least {MIN_PHOTOS}")
    names = np.array([row["bin"] for row in challenger.rows])
    bins = {}
    for name in BINS:
        inside = names == name
        if len(set(photos[inside])) >= MIN_PHOTOS:
            bins[name] = _interval(gains[inside], photos[inside], Chance(seed, "bootstrap", metric, name))
    return Comparison(metric, seed, _interval(gains, photos, Chance(seed, "bootstrap", metric, ALL)), bins)


def refuse_unlike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Raises Refused naming the first field in which two passports differ."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            raise Refused(
                f"scores of unlike passports are not compared: {name} is {one.get(name)!r} on one side and "
                f"{other.get(name)!r} on the other; evaluate and register both anew, "
                "the champion first, on the same dataset with the same settings"
            )


def _column(card: Scorecard, metric: str) -> NDArray[np.float64]:
    return np.array([row[metric] for row in card.rows], np.float64)


def _interval(gains: NDArray[np.float64], photos: NDArray[np.int64], chance: Chance) -> Interval:
    """Mean and percentile interval over resampled photos; sums and counts per photo, so one product does it all."""
    _, index = np.unique(photos, return_inverse=True)
    sums, counts = np.bincount(index, weights=gains), np.bincount(index).astype(np.float64)
    num_photos = len(sums)
    means = np.empty(NUM_RESAMPLES)
    for resample in range(NUM_RESAMPLES):
        drawn = (chance.words(num_photos) % np.uint64(num_photos)).astype(np.int64)
        means[resample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(gains.mean()), float(low), float(high), len(gains))
