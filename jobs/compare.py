"""`lacuna compare`: scorecards over the same pairs -> gains over the first, with intervals."""

from dataclasses import dataclass
from typing import Any

import tyro

from infra import storage
from jobs.cli import run_as_module
from jobs.options import URI
from jobs.progress import say
from pipelines.evaluation.comparison import Comparison, compare
from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.scorecard import ALL, Scorecard, load_scorecard
from pipelines.evaluation.tables import Table
from pipelines.records import UsageError


@dataclass(frozen=True)
class Arguments:
    """Compare scorecards over the same pairs with the first one: a paired bootstrap over photos."""

    scores: tyro.conf.Positional[tuple[URI, ...]]
    """Scores: folders or URIs that `lacuna evaluate --out` wrote, two or more."""
    metrics: tuple[str, ...] = ()
    """Metrics to compare; all that the cards share by default."""
    seed: int = 0
    """Seed of the bootstrap."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Compare the cards, say the tables and report."""
    if len(arguments.scores) < 2:
        raise UsageError(f"{len(arguments.scores)} scorecards are given: give two or more")
    if len(set(arguments.scores)) < len(arguments.scores):
        raise UsageError("a scorecard is given twice: give each once")
    cards = [load_scorecard(storage.to_absolute(uri)) for uri in arguments.scores]
    ranked = [m for m in cards[0].metrics if REGISTRY[m].higher_is_better is not None]
    shared = [m for m in ranked if all(m in card.metrics for card in cards)]
    metrics = arguments.metrics or tuple(shared)
    gains = {
        uri: {metric: compare(card, cards[0], metric, arguments.seed) for metric in metrics}
        for uri, card in zip(arguments.scores[1:], cards[1:], strict=True)
    }
    for metric in metrics:
        say(_tabulate(metric, cards[0], arguments.scores[0], {uri: g[metric] for uri, g in gains.items()}).as_text())
    return {
        "reference": {"scores": arguments.scores[0], "model": cards[0].model},
        "gains": {uri: {m: c.as_json() for m, c in by_metric.items()} for uri, by_metric in gains.items()},
    }


def _tabulate(metric: str, reference: Scorecard, title: str, gains: dict[str, Comparison]) -> Table:
    """Mean of the reference, and the gain of each other card with its interval, a row for each bin; more is better."""
    names = [ALL, *next(iter(gains.values())).bins]
    rows = [
        [name, f"{reference.mean(metric, name):.4g}", *(_format(c, name) for c in gains.values())] for name in names
    ]
    return Table(f"{metric}: gains over {title}, 95 % intervals; more is better", ["", "reference", *gains], rows)


def _format(comparison: Comparison, name: str) -> str:
    interval = comparison.overall if name == ALL else comparison.bins[name]
    return f"{interval.gain:+.3g} [{interval.low:+.3g}, {interval.high:+.3g}]"


if __name__ == "__main__":
    run_as_module("compare")
