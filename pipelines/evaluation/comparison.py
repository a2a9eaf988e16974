"""Two scorecards over the same pairs: is the challenger better, and how sure are we?

Rows are paired by key and mask recipe, whatever order they come in. A paired bootstrap over photos (a photo's masks are
drawn together, they are not independent). Scores whose passports differ are not compared: the differing field is named.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import HIGHER_IS_BETTER
from pipelines.evaluation.scorecard import ALL, Pair, Scorecard, name_pair, list_pairs, refuse_repeated
from pipelines.keyed_rng import KeyedRng
from pipelines.masks.bins import BINS
from pipelines.records import UsageError

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

    @property
    def is_finite(self) -> bool:
        """Whether all three are finite numbers, without which nothing can be decided."""
        return bool(np.isfinite([self.gain, self.low, self.high]).all())


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
    """Paired gains per bin.

    Raises UsageError where passports, pairs or a pair's bins differ, a score is not finite or the metric is unknown,
    CorruptDataError where a pair has several rows.
    """
    refuse_unlike(challenger.passport, champion.passport)
    if metric not in HIGHER_IS_BETTER:
        raise UsageError(f"unknown metric {metric!r}: known are {', '.join(HIGHER_IS_BETTER)}")
    ours, theirs = _paired_rows(challenger.rows, champion.rows)
    sign = 1.0 if HIGHER_IS_BETTER[metric] else -1.0
    gains = sign * (_column(ours, metric) - _column(theirs, metric))
    photos = np.unique([row["key"] for row in ours], return_inverse=True)[1]
    if len(set(photos)) < MIN_PHOTOS:
        raise UsageError(
            f"{len(set(photos))} held-out photos are too few to compare by: hold out at least {MIN_PHOTOS}"
        )
    names = np.array([row["bin"] for row in ours])
    bins = {}
    for name in BINS:
        inside = names == name
        if len(set(photos[inside])) >= MIN_PHOTOS:
            bins[name] = _interval(gains[inside], photos[inside], KeyedRng(seed, "bootstrap", metric, name))
    overall = _interval(gains, photos, KeyedRng(seed, "bootstrap", metric, ALL))
    if not all(interval.is_finite for interval in (overall, *bins.values())):
        raise UsageError(f"the gains in {metric} add up to no finite number: evaluate and register both again")
    return Comparison(metric, seed, overall, bins)


def refuse_unlike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Raises UsageError naming the first field in which two passports differ."""
    ours, theirs = _flat(one), _flat(other)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            raise UsageError(
                f"scores of unlike passports are not compared: {name} is {ours.get(name)!r} on one side and "
                f"{theirs.get(name)!r} on the other; evaluate and register both anew, "
                "the champion first, on the same dataset with the same settings"
            )


def _flat(passport: dict[str, Any]) -> dict[str, Any]:
    """Fields by their dotted names; one that is not there is as good as none."""
    flat: dict[str, Any] = {}
    for name, value in passport.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


Rows = Sequence[dict[str, Any]]


def _paired_rows(challenger: Rows, champion: Rows) -> tuple[Rows, Rows]:
    """Rows of both in one canonical order: by key, then by mask recipe."""
    for rows, who in ((challenger, "challenger"), (champion, "champion")):
        refuse_repeated(list_pairs(rows), f"the scores of the {who}")
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
    """Raise UsageError with counts and an example where one side has pairs that the other has not."""
    only = {"challenger": set(challenger) - set(champion), "champion": set(champion) - set(challenger)}
    extra = [
        f"{len(pairs)} only of the {who} (such as {name_pair(min(pairs))})" for who, pairs in only.items() if pairs
    ]
    if extra:
        raise UsageError(
            f"the challenger has {len(challenger)} pairs, the champion {len(champion)}: {', '.join(extra)}; "
            "evaluate and register both again on the same dataset"
        )


def _column(rows: Rows, metric: str) -> NDArray[np.float64]:
    values = np.array([row[metric] for row in rows], np.float64)
    if not np.isfinite(values).all():
        row = rows[int(np.isfinite(values).argmin())]
        raise UsageError(f"{metric} is {row[metric]} for {name_pair((row['key'], row['recipe']))}: evaluate again")
    return values


def _interval(gains: NDArray[np.float64], photos: NDArray[np.int64], chance: KeyedRng) -> Interval:
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
