"""Tables of a scorecard, for the terminal and for the page: by bin, by column of a paper, by mask family.

In: a card. Out: cells as text. Each table names how its means are made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipelines.evaluation.metrics import REGISTRY
from pipelines.evaluation.metrics.aggregates import average_bins, pool_pixels
from pipelines.evaluation.printed import PrintedCell, find_printed
from pipelines.evaluation.protocol import list_bins
from pipelines.evaluation.scorecard import ALL, Scorecard
from pipelines.records import Score

_SQUARED: Final = ("mse_hole", "mse_image")
_MAIN_TABLES: Final = {"spn": ("1", "2"), "distill": ("1",), "deepgin": ("2", "1"), "mhtma": ("IV", "II")}
"""Tables that compare systems, by paper; the last first where several fills are drawn (SPN, Table 2)."""
_NEAREST: Final = {"ssim": "ssim_image", "l1": "l1_image", "lpips": "lpips_alex_image"}
"""Our metric beside a printed one whose definition the paper does not state."""
_FAMILIES: Final = {"rectangles": "rectangle"}
"""Mask family of a part of a printed table."""
_DIGITS: Final = {"dB": 2, "% of 255": 3}


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
    if (printed := _tabulate_printed(card)) is not None:
        tables.append(printed)
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
            if REGISTRY[name].region in counts and REGISTRY[name].kind == "pair" and not name.startswith("lpips")
            else ""
            for name in card.metrics
        ],
    }


def _tabulate_columns(card: Scorecard, columns: Sequence[str]) -> Table:
    """A row for each column of the paper's table that has pairs, and for all."""
    rows = []
    for column in (*columns, ALL):
        scores = {m: _add_bins(card.scores[m], column) for m in card.metrics}
        if next(iter(scores.values())).count:
            sets = [_format(m, values[column]) if column in values else "" for m, values in card.sets.items()]
            rows.append([*_list_means(column, scores), *sets])
    title = f"Columns of the protocol {card.passport['asking']['name']} (mean over pairs)"
    return Table(title, ["", "pairs", *card.metrics, *card.sets], rows)


def _add_bins(scores: Mapping[str, Score], column: str) -> Score:
    """Score of all pairs of a column."""
    return sum((scores[name] for name in (list_bins(column) if column != ALL else (ALL,))), Score(0.0, 0))


def _tabulate_printed(card: Scorecard) -> Table | None:
    """Our scores beside the figures that the protocol's paper prints for this dataset, if it prints any."""
    asking = card.passport["asking"]
    cells = _choose_cells(asking, card.passport["dataset"])
    if not cells:
        return None
    systems = list(dict.fromkeys(cell.system for cell in cells))
    lines: dict[tuple[str, str, str], dict[str, PrintedCell]] = {}
    for cell in cells:
        lines.setdefault((cell.masks, cell.bin, cell.metric), {})[cell.system] = cell
    rows = [
        [" ".join(label), _find_ours(card, next(iter(line.values()))), *(_format_cell(line.get(s)) for s in systems)]
        for label, line in lines.items()
    ]
    title = (
        f"Beside table {cells[0].table} as the paper prints it, in its units (* is another definition than the paper's)"
    )
    return Table(title, ["", "ours", *systems], rows)


def _choose_cells(asking: Mapping[str, Any], dataset: str) -> list[PrintedCell]:
    """Cells of the main table of the protocol's paper for a dataset and size; none where it has no such table."""
    cells = [c for c in find_printed(asking["name"], dataset) if c.size == str(asking.get("size", ""))]
    order = _MAIN_TABLES.get(asking["name"], ())
    tables = order[::-1] if asking["num_fills"] > 1 else order
    chosen = next((table for table in tables if any(c.table == table for c in cells)), None)
    return [cell for cell in cells if cell.table == chosen]


def _find_ours(card: Scorecard, cell: PrintedCell) -> str:
    """Our score of a cell in the printed unit, with a star where definitions differ; empty where there is none."""
    metric = cell.ours or _NEAREST.get(cell.metric, "")
    family = _FAMILIES.get(cell.masks)
    value = None
    if metric in card.sets:
        value = card.sets[metric].get(family or cell.bin)
    elif metric in card.metrics and (family is None or family in card.families):
        scores = card.families[family] if family else card.scores
        score = _add_bins(scores[metric], cell.bin)
        value = score.mean if score.count else None
    return "" if value is None else f"{value / cell.factor:.4g}{'' if cell.ours else '*'}"


def _format_cell(cell: PrintedCell | None) -> str:
    return "" if cell is None else f"{cell.value:g}"


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
