"""Scorecard: a model's scores on the pairs of a split, in memory and as two sealed files.

In: one row per pair. Out: sums, counts and means of the rows, and errors for rows that prove nothing: scores that are
not finite, pairs that are doubled or missing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

from infra import storage
from pipelines.checked_files import read_checked, read_parquet, seal, table_bytes, unseal
from pipelines.evaluation.metrics import METRICS, REGISTRY
from pipelines.evaluation.pairs import EvalSize, hash_pair_list
from pipelines.masks.bins import BINS
from pipelines.records import CorruptDataError, Score, UsageError, sha256_hex

SCORES_FILE: Final = "scores.json"
PAIRS_FILE: Final = "pairs.parquet"
SCORES_FORMAT: Final = 2
"""Format of SCORES_FILE. Format 1 had no `format`, no protocol by name and fewer metrics."""
ALL: Final = "all"
BASELINES: Final = ("telea", "navier-stokes")
"""Classical methods, by their names as models, that are scored with every model."""
_SUM_TOLERANCE: Final = 1e-9
"""Relative tolerance: sums of the same numbers in another order differ by less."""

Scores = dict[str, dict[str, Score]]
"""Scores: metric -> bin or `all` -> score."""
SetScores = dict[str, dict[str, float]]
"""Scores of sets of pairs, such as FID: metric -> bin, column, mask family or `all` -> value."""
Pair = tuple[str, str]
"""Key and mask spec."""


@dataclass(frozen=True)
class Scorecard:
    """Scores of a model and of the baselines on the pairs of a split."""

    model: dict[str, str]
    passport: dict[str, Any]
    rows: list[dict[str, Any]]
    """Row per pair: key, `recipe` (its mask spec), `family`, bin, ratio, size, every metric, and `baselines`: method ->
    its metrics."""
    sets: SetScores = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that every row has."""
        measured = self.passport.get("metrics", METRICS)  # JSON has sorted the names
        return tuple(name for name in dict.fromkeys((*METRICS, *REGISTRY)) if name in measured)

    @cached_property
    def scores(self) -> Scores:
        """Sums and counts of the model."""
        return _add_up(self.metrics, ((row["bin"], row) for row in self.rows))

    @cached_property
    def baselines(self) -> dict[str, Scores]:
        """Sums and counts of the baselines by name; a card of a baseline itself has the other one alone."""
        names = _list_baselines(self.rows)
        return {
            name: _add_up(self.metrics, ((row["bin"], row["baselines"][name]) for row in self.rows)) for name in names
        }

    @cached_property
    def families(self) -> dict[str, Scores]:
        """Sums and counts of the pairs of each mask family by name."""
        names = sorted({row.get("family", "") for row in self.rows} - {""})
        rows = {name: [row for row in self.rows if row["family"] == name] for name in names}
        return {name: _add_up(self.metrics, ((row["bin"], row) for row in rows[name])) for name in names}

    def mean(self, metric: str, bin_name: str = ALL) -> float:
        """Mean of a metric over the pairs of a bin."""
        return self.scores[metric][bin_name].mean

    def summary(self) -> dict[str, dict[str, float]]:
        """Means: metric -> bin -> mean, without bins that have no pairs."""
        return _summarize(self.scores)

    def baseline_summaries(self) -> dict[str, dict[str, dict[str, float]]]:
        """Means of every baseline by name, as in `summary`."""
        return {name: _summarize(scores) for name, scores in self.baselines.items()}


def save_scorecard(card: Scorecard, out: str) -> None:
    """Publish the pairs and then the scores under `out`; raises UsageError where a score is not finite."""
    refuse_non_finite(card, out)
    pairs = table_bytes(pa.Table.from_pylist(card.rows))
    storage.publish(storage.join(out, PAIRS_FILE), pairs)
    facts = {"format": SCORES_FORMAT, "model": card.model, "passport": card.passport, **_to_json(card.scores)}
    facts |= {"sets": card.sets, "families": {name: _to_json(scores) for name, scores in card.families.items()}}
    facts["baselines"] = {name: _to_json(scores) for name, scores in card.baselines.items()}
    storage.publish(storage.join(out, SCORES_FILE), seal({**facts, "pairs_file_sha256": sha256_hex(pairs)}))


def load_scorecard(uri: str) -> Scorecard:
    """Scorecard under a URI.

    Raises UsageError where there is none, of another format, or with a score that is not finite, CorruptDataError where
    a byte differs or rows and sums disagree.
    """
    scores_uri = storage.join(uri, SCORES_FILE)
    if not storage.exists(scores_uri):
        raise UsageError(f"no {SCORES_FILE} at {uri}: run `lacuna evaluate --out {uri}` first")
    facts = unseal(storage.read_bytes(scores_uri), scores_uri)
    if facts.get("format", 1) != SCORES_FORMAT:
        raise UsageError(
            f"{scores_uri} has format {facts.get('format', 1)}, this version of Lacuna reads {SCORES_FORMAT}: evaluate "
            "again with another --out"
        )
    pairs = read_checked(storage.join(uri, PAIRS_FILE), facts["pairs_file_sha256"])
    card = Scorecard(facts["model"], facts["passport"], read_parquet(pairs).to_pylist(), facts["sets"])
    refuse_unsound(card, uri)
    _refuse_other_sums({"": facts, **facts["baselines"]}, {"": card.scores, **card.baselines}, uri)
    return card


def refuse_unsound(card: Scorecard, where: str) -> None:
    """Raise UsageError for a score that is not finite, CorruptDataError for rows that are not the passport's pairs."""
    refuse_non_finite(card, where)
    pairs, expected = list_pairs(card.rows), card.passport["num_pairs"]
    refuse_repeated(pairs, where)
    if len(pairs) != expected or not pairs:
        raise CorruptDataError(f"{where}: {len(pairs)} rows, the passport counts {expected} pairs: evaluate again")
    if card.passport["pairs_sha256"] != hash_pairs(pairs, card.passport.get("asking", {}).get("size")):
        raise CorruptDataError(
            f"{where}: {len(pairs)} rows are not the pairs of the passport, the first is {name_pair(pairs[0])}: "
            "evaluate again"
        )


def refuse_non_finite(card: Scorecard, where: str) -> None:
    """Raise UsageError naming the first score, of the model or of a baseline, that is not a finite number."""
    problem = find_non_finite(card)
    if problem is not None:
        raise UsageError(f"{where}: {problem}: such scores prove nothing, evaluate again")


def find_non_finite(card: Scorecard) -> str | None:
    """Description of the first score that is not a finite number, with its pair, or of the first such sum, or None."""
    if (problem := next(_non_finite_rows(card), None)) is not None:
        return problem
    sets = (
        f"{m} of {n} is {x}" for m, by_name in card.sets.items() for n, x in by_name.items() if not math.isfinite(x)
    )
    return next(_non_finite_sums({"": card.scores, **card.baselines}), None) or next(sets, None)


def _non_finite_rows(card: Scorecard) -> Iterator[str]:
    names = _list_baselines(card.rows)
    for row in card.rows:
        if row["bin"] not in BINS:
            yield f"the pair {name_pair((row['key'], row['recipe']))} has the unknown bin {row['bin']!r}"
        baselines = row.get("baselines") or {}
        for name, metrics in (("", row), *((name, baselines.get(name) or {}) for name in names)):
            for metric in card.metrics:
                value = metrics.get(metric)
                if not isinstance(value, (int, float)) or not math.isfinite(value):
                    yield f"{_name_metric(name, metric)} is {value} for {name_pair((row['key'], row['recipe']))}"


def _non_finite_sums(scored: Mapping[str, Scores]) -> Iterator[str]:
    for name, scores in scored.items():
        for metric, bins in scores.items():
            sums = [score.total for score in bins.values() if not math.isfinite(score.total)]
            yield from (f"the sum of {_name_metric(name, metric)} is {total}" for total in sums)


def _name_metric(name: str, metric: str) -> str:
    return f"{metric} of {name}" if name else metric


def refuse_repeated(pairs: Iterable[Pair], where: str) -> None:
    """Raise CorruptDataError naming a pair that occurs several times, and how often."""
    counts = Counter(pairs)
    repeated = [pair for pair, count in counts.items() if count > 1]
    if repeated:
        raise CorruptDataError(
            f"{where}: {len(repeated)} of {len(counts)} pairs have several rows, {name_pair(repeated[0])} has "
            f"{counts[repeated[0]]}: evaluate again"
        )


def list_pairs(rows: Iterable[Mapping[str, Any]]) -> list[Pair]:
    """Key and mask spec of each row."""
    return [(row["key"], row["recipe"]) for row in rows]


def hash_pairs(pairs: Iterable[Pair], size: EvalSize | None = None) -> str:
    """SHA-256 over the pairs in any order, and over the size that their masks are drawn at, if not their own."""
    at = "" if size is None else f" at {size}"
    return hash_pair_list((key, spec + at) for key, spec in sorted(pairs))


def name_pair(pair: Pair) -> str:
    """Name of a pair in messages."""
    return f"{pair[0]} with mask '{pair[1]}'"


def _list_baselines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(rows[0].get("baselines") or {}) if rows else []


def _add_up(names: Sequence[str], rows: Iterable[tuple[str, Mapping[str, float]]]) -> Scores:
    """(bin, metrics) of each pair -> sums and counts of these metrics."""
    scores = {metric: dict.fromkeys((ALL, *BINS), Score(0.0, 0)) for metric in names}
    for bin_name, metrics in rows:
        for metric, bins in scores.items():
            for name in (ALL, bin_name):
                bins[name] += Score(metrics[metric], 1)
    return scores


def _summarize(scores: Scores) -> dict[str, dict[str, float]]:
    return {m: {b: round(s.mean, 4) for b, s in bins.items() if s.count} for m, bins in scores.items()}


def _to_json(scores: Scores) -> dict[str, Any]:
    """Sums with their counts, and means, as JSON has them."""
    sums = {m: {b: [s.total, s.count] for b, s in bins.items()} for m, bins in scores.items()}
    return {"sums": sums, "means": _summarize(scores)}


def _refuse_other_sums(stored: Mapping[str, Mapping[str, Any]], scored: Mapping[str, Scores], where: str) -> None:
    """Raise CorruptDataError where the stored sums of the model or of a baseline are not those of the rows."""
    if stored.keys() != scored.keys():
        sums, rows = (", ".join(sorted(filter(None, names))) or "none" for names in (stored, scored))
        raise CorruptDataError(f"{where}: sums of the baselines {sums}, rows of {rows}: evaluate again")
    for name, scores in scored.items():
        for metric, bins in scores.items():
            for bin_name, score in bins.items():
                total, count = stored[name]["sums"][metric][bin_name]
                if count != score.count or not math.isclose(total, score.total, rel_tol=_SUM_TOLERANCE, abs_tol=1e-9):
                    raise CorruptDataError(
                        f"{where}: {_name_metric(name, metric)} in bin {bin_name} adds up to {score.total:.6g} over "
                        f"{score.count} rows, {SCORES_FILE} says {total:.6g} over {count}: evaluate again"
                    )
