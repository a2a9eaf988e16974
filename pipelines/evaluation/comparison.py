"""Comparison of two scorecards over the same pairs: the challenger's gain and its confidence interval.

Rows are paired by key and mask spec, in any order. The bootstrap is paired over photos, as a photo's masks are not
independent. Scores whose passports differ are not compared: the differing field is named.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.scorecard import ALL, Pair, Scorecard, list_pairs, name_pair, refuse_repeated
from pipelines.keyed_rng import KeyedRng
from pipelines.masks.bins import BINS
from pipelines.records import UsageError

NUM_RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
MIN_PHOTOS: Final = 5
_REPORTED: Final = ("metrics", "sets", "columns", "notes", "results")
"""Fields of a passport that say what was measured besides, and change no number."""


@dataclass(frozen=True)
class Interval:
    """Mean gain of the challenger over the champion in a bin, and its bootstrap interval; positive is better."""

    gain: float
    low: float
    high: float
    num_pairs: int

    @property
    def is_finite(self) -> bool:
        """Whether gain and both ends are finite numbers."""
        return bool(np.isfinite([self.gain, self.low, self.high]).all())


@dataclass(frozen=True)
class Comparison:
    """Gains of a challenger in one metric."""

    metric: str
    seed: int
    overall: Interval
    bins: dict[str, Interval]
    """Bins with at least MIN_PHOTOS photos."""

    def as_json(self) -> dict[str, Any]:
        """Fields as JSON has them."""
        return asdict(self)


def compare(challenger: Scorecard, champion: Scorecard, metric: str, seed: int = 0) -> Comparison:
    """Comparison by paired gains per bin.

    Raises UsageError where passports, pairs or a pair's bins differ, a score is not finite or the metric is not one of
    both cards, CorruptDataError where a pair has several rows.
    """
    for card, name in ((challenger, "challenger"), (champion, "champion")):
        if metric not in card.metrics:
            raise UsageError(f"the scores of the {name} have no {metric}: use one of {', '.join(card.metrics)}")
    if REGISTRY[metric].higher_is_better is None:
        raise UsageError(f"{metric} says how much fills differ, not how good they are: compare another metric")
    refuse_unlike(challenger.passport, champion.passport, metric)
    # Pair the rows and compute the gains.
    ours, theirs = _pair_rows(challenger.rows, champion.rows)
    sign = 1.0 if REGISTRY[metric].higher_is_better else -1.0
    gains = sign * (_read_column(ours, metric) - _read_column(theirs, metric))
    photos = np.unique([row["key"] for row in ours], return_inverse=True)[1]
    if len(set(photos)) < MIN_PHOTOS:
        raise UsageError(
            f"{len(set(photos))} held-out photos are too few for a comparison: hold out at least {MIN_PHOTOS}"
        )
    # Resample each bin with enough photos, and all photos.
    names = np.array([row["bin"] for row in ours])
    bins = {}
    for name in BINS:
        inside = names == name
        if len(set(photos[inside])) >= MIN_PHOTOS:
            bins[name] = bootstrap(gains[inside], photos[inside], KeyedRng(seed, "bootstrap", metric, name))
    overall = bootstrap(gains, photos, KeyedRng(seed, "bootstrap", metric, ALL))
    if not all(interval.is_finite for interval in (overall, *bins.values())):
        raise UsageError(f"the gains in {metric} do not add up to a finite number: evaluate and register both again")
    return Comparison(metric, seed, overall, bins)


def refuse_unlike(one: dict[str, Any], other: dict[str, Any], metric: str) -> None:
    """Raise UsageError naming the first field in which two passports differ, other metrics than this one aside."""
    ours, theirs = (_flatten(passport, metric) for passport in (one, other))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            raise UsageError(
                f"scores of unlike passports are not compared: {name} is {ours.get(name)!r} on one side and "
                f"{theirs.get(name)!r} on the other. Evaluate and register both again, "
                "the champion first, on the same dataset with the same settings"
            )


def _flatten(passport: dict[str, Any], metric: str) -> dict[str, Any]:
    """Fields by their dotted names that decide what the metric means."""
    flat: dict[str, Any] = {f"metrics.{metric}": dict(passport.get("metrics", {})).get(metric)}
    for name, value in passport.items():
        if name in _REPORTED:
            continue
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


Rows = Sequence[dict[str, Any]]


def _pair_rows(challenger: Rows, champion: Rows) -> tuple[Rows, Rows]:
    """Rows of both in one canonical order: by key, then by mask spec."""
    for rows, name in ((challenger, "challenger"), (champion, "champion")):
        refuse_repeated(list_pairs(rows), f"the scores of the {name}")
    _refuse_other_pairs(list_pairs(challenger), list_pairs(champion))
    ours, theirs = (sorted(rows, key=lambda row: (row["key"], row["recipe"])) for rows in (challenger, champion))
    for one, other in zip(ours, theirs, strict=True):
        if one["bin"] != other["bin"]:
            pair = name_pair((one["key"], one["recipe"]))
            raise UsageError(
                f"{pair} is in bin {one['bin']} on one side, in {other['bin']} on the other: evaluate again"
            )
    return ours, theirs


def _refuse_other_pairs(challenger: list[Pair], champion: list[Pair]) -> None:
    """Raise UsageError with counts and an example where one side has pairs that the other does not have."""
    only = {"challenger": set(challenger) - set(champion), "champion": set(champion) - set(challenger)}
    extra = [f"{len(p)} only of the {name} (such as {name_pair(min(p))})" for name, p in only.items() if p]
    if extra:
        raise UsageError(
            f"the challenger has {len(challenger)} pairs, the champion {len(champion)}: {', '.join(extra)}. "
            "Evaluate and register both again on the same dataset"
        )


def _read_column(rows: Rows, metric: str) -> NDArray[np.float64]:
    values = np.array([row[metric] for row in rows], np.float64)
    if not np.isfinite(values).all():
        row = rows[int(np.isfinite(values).argmin())]
        raise UsageError(f"{metric} is {row[metric]} for {name_pair((row['key'], row['recipe']))}: evaluate again")
    return values


def bootstrap(values: NDArray[np.float64], photos: NDArray[np.int64], rng: KeyedRng) -> Interval:
    """Mean of the pairs' values and its percentile interval over resampled photos, from sums and counts per photo."""
    _, index = np.unique(photos, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(np.float64)
    num_photos = len(sums)
    means = np.empty(NUM_RESAMPLES)
    for resample in range(NUM_RESAMPLES):
        drawn = (rng.words(num_photos) % np.uint64(num_photos)).astype(np.int64)
        means[resample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high), len(values))
