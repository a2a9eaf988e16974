"""Form in which printed tables are written down, and its parser.

In: a `Table`: labels of its columns, and a line per row with labels and numbers. Out: a `PrintedCell` per number, with
the name of our metric where the paper or its code defines the same function.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final

ALL: Final = "all"
GAP: Final = "-"
"""A cell in which nothing is printed."""


@dataclass(frozen=True)
class Meaning:
    """Meaning of a printed metric."""

    unit: str
    """Unit of the printed number."""
    ours: str | None
    """Name of our metric of the same definition; None where it is unknown or no score."""
    factor: float = 1.0
    """Our unit over the printed one: printed number times factor is in our unit."""
    remark: str = ""
    """What is not stated, or why nothing of ours is comparable."""


@dataclass(frozen=True)
class Table:
    """A printed table. Labels are named paper, table, dataset, system, bin, metric, masks or size."""

    paper: str
    number: str
    """Number as printed."""
    meanings: Mapping[str, Meaning]
    """Meaning of each metric."""
    columns: Mapping[str, tuple[str, ...]]
    """Labels of the columns: all combinations, the last label changes first."""
    rows: tuple[str, ...]
    """Names of the labels that stand at the beginning of a line; words of a label are joined by `_`."""
    lines: str
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Labels of the whole table."""
    misprints: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Remark on a cell that other tables contradict, by system and metric."""


@dataclass(frozen=True)
class PrintedCell:
    """A number of a printed table."""

    paper: str
    table: str
    dataset: str
    """places2, celeba, celebahq, paris-streetview, ffhq, oxford-buildings; `any` or `unknown`."""
    system: str
    bin: str
    """Hole ratios, such as 0.2-0.4, or `all`."""
    masks: str
    """Kind of masks."""
    size: str
    """Side of the pictures in px, or `own`."""
    metric: str
    """Name as printed, in lower case."""
    value: float
    """Number as printed."""
    unit: str
    ours: str | None
    """Our metric of the same definition, None where there is none."""
    factor: float
    remark: str
    misprint: str = ""

    @property
    def in_our_unit(self) -> float:
        """The number in the unit of our metric."""
        return self.value * self.factor


def read_cells(table: Table) -> Iterator[PrintedCell]:
    """Yield the numbers of a table; raises ValueError for a line with too few or too many."""
    columns = [dict(zip(table.columns, labels, strict=True)) for labels in product(*table.columns.values())]
    for line in filter(None, map(str.strip, table.lines.splitlines())):
        words = line.split()
        labels, numbers = words[: len(table.rows)], words[len(table.rows) :]
        if len(numbers) != len(columns):
            raise ValueError(f"{table.paper}, Table {table.number}: {len(numbers)} numbers, not {len(columns)}: {line}")
        row = dict(zip(table.rows, (label.replace("_", " ") for label in labels), strict=True))
        for column, number in zip(columns, numbers, strict=True):
            if number != GAP:
                yield _make_cell(table, {"bin": ALL, **table.fixed, **row, **column}, float(number))


def _make_cell(table: Table, labels: Mapping[str, str], value: float) -> PrintedCell:
    meaning = table.meanings[labels["metric"]]
    misprint = table.misprints.get((labels["system"], labels["metric"]), "")
    return PrintedCell(
        table.paper, table.number, **labels, value=value, unit=meaning.unit, ours=meaning.ours,
        factor=meaning.factor, remark=meaning.remark, misprint=misprint,
    )  # fmt: skip
