"""Tables of a scorecard, for the terminal and for the page: by bin, by column of a paper, by mask family.

In: a card. Out: cells as text. Each table names how its means are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.metrics.aggregates import average_bins, pool_pixels
from pipelines.evaluation.printed_tables import find_printed
from pipelines.evaluation.protocol import list_bins
from pipelines.evaluation.scorecard import ALL, Scorecard
from pipelines.records import Score

_SQUARED: Final = ("mse_hole", "mse_image")
_DIGITS: Final = {"dB": 2, "%": 3}


@dataclass(frozen=True)
class Table:
    """Title, heads of the columns, and rows of cells."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """The table with aligned columns, the first to the left."""
        lines = [list(self.head), *map(list, self.rows)]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.head))]
        aligned = ("  ".join(self._align(cell, n, widths[n]) for n, cell in enumerate(line)) for line in lines)
        return "\n".join([self.title, *(line.rstrip() for line in aligned)])

    @staticmethod
    def _align(cell: str, column: int, width: int) -> str:
        return cell.rjust(width) if column else cell.ljust(width)


def list_tables(card: Scorecard) -> list[Table]:
    """Tables of the card; those of columns and families only where there are some."""
    tables = [_tabulate_bins(card)]
    if columns := card.passport.get("columns"):
        tables.append(_tabulate_columns(card, columns))
    if card.sets:
        tables.append(_tabulate_sets(card))
    if len(card.families) > 1:
        tables.append(_tabulate_families(card))
    return tables


def _tabulate_bins(card: Scorecard) -> Table:
    """A row for each bin that has pairs and for all, for other means of all, and for each baseline."""
    names = [name for name, score in card.scores[card.metrics[0]].items() if score.count]
    rows = [_list_means(name, {m: card.scores[m][name] for m in card.metrics}) for name in names]
    rows += [[title, "", *cells] for title, cells in _list_other_means(card).items()]
    rows += [_list_means(name, {m: s[m][ALL] for m in card.metrics}) for name, s in card.baselines.items()]
    return Table("By hole ratio (mean over pairs; baselines over all pairs)", ["", "pairs", *card.metrics], rows)


def _list_other_means(card: Scorecard) -> dict[str, list[str]]:
    """Mean of bin means and pooled value of each metric, by title; nothing where pooling has no meaning."""
    columns = {name: np.array([row[name] for row in card.rows]) for name in (*card.metrics, *_SQUARED)}
    areas = np.array([row["height_px"] * row["width_px"] for row in card.rows])
    counts = {"hole": np.rint(np.array([row["ratio"] for row in card.rows]) * areas).astype(np.int64), "image": areas}
    bins = [row["bin"] for row in card.rows]
    return {
        "mean of bins": [_format(name, average_bins(columns[name], bins)) for name in card.metrics],
        "pooled": [
            _format(name, pool_pixels(name, columns, counts))
            if REGISTRY[name].region in counts and not name.startswith("lpips")
            else ""
            for name in card.metrics
        ],
    }


def _tabulate_columns(card: Scorecard, columns: Sequence[str]) -> Table:
    """Scores as in the paper's table, a row for each metric and column, beside the figures that it prints."""
    printed = find_printed(card.passport["asking"]["name"], card.passport["dataset"])
    systems = sorted({row.system for row in printed})
    cells = {(row.system, row.metric, row.column): f"{row.value:g}" for row in printed}
    rows = []
    for column in (*columns, ALL):
        bins = list_bins(column) if column != ALL else (ALL,)
        for metric in (*card.metrics, *card.sets):
            value = _find_value(card, metric, column, bins)
            beside = [cells.get((system, metric, column), "") for system in systems]
            if value is not None and (any(beside) or not systems):
                rows.append([f"{column} {metric}", _format(metric, value), *beside])
    title = f"Columns of {card.passport['asking']['name']} (ours, then as printed by the paper, on its own photos)"
    return Table(title, ["", "ours", *systems], rows)


def _find_value(card: Scorecard, metric: str, column: str, bins: Sequence[str]) -> float | None:
    """Score of a column; None where it has no pairs."""
    if metric in card.sets:
        return card.sets[metric].get(column)
    score = sum((card.scores[metric][name] for name in bins), Score(0.0, 0))
    return score.mean if score.count else None


def _tabulate_sets(card: Scorecard) -> Table:
    """A row for each group of pairs that has scores of sets."""
    groups = list(dict.fromkeys(group for values in card.sets.values() for group in values))
    rows = [[g, *(_format(m, values[g]) if g in values else "" for m, values in card.sets.items())] for g in groups]
    return Table("Of sets of pictures", ["", *card.sets], rows)


def _tabulate_families(card: Scorecard) -> Table:
    rows = [_list_means(name, {m: s[m][ALL] for m in card.metrics}) for name, s in card.families.items()]
    return Table("By mask family (mean over pairs)", ["", "pairs", *card.metrics], rows)


def _list_means(title: str, scores: Mapping[str, Score]) -> list[str]:
    count = next(iter(scores.values())).count
    return [title, f"{count:,}", *_format_values({name: score.mean for name, score in scores.items()})]


def _format_values(values: Mapping[str, float]) -> list[str]:
    return [_format(name, value) for name, value in values.items()]


def _format(metric: str, value: float) -> str:
    """Value with the digits that its unit deserves."""
    return f"{value:.{_DIGITS.get(REGISTRY[metric].unit, 4)}f}"
