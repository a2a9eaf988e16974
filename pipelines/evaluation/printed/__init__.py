"""Tables of the four papers, as they are printed, cell by cell.

In: nothing. Out: `PrintedCell`s, and those that may stand beside scores of a protocol on a dataset. `tables` says how a
table is written down; one module per paper holds its tables.
"""

from typing import Final

from pipelines.evaluation.printed import deepgin, distill, mhtma, spn
from pipelines.evaluation.printed.tables import PrintedCell, Table, read_cells

TABLES: Final[tuple[Table, ...]] = (*spn.TABLES, *distill.TABLES, *deepgin.TABLES, *mhtma.TABLES)
CELLS: Final[tuple[PrintedCell, ...]] = tuple(cell for table in TABLES for cell in read_cells(table))

__all__ = ["CELLS", "TABLES", "PrintedCell", "find_printed"]


_OTHER_NAMES: Final = {
    "places2": ("places", "places365", "places365-easy", "places365-large", "places365-small"),
    "paris-streetview": ("paris", "psv"),
    "oxford-buildings": ("oxford",),
}
"""Other names of datasets, such as those of our sources."""


def find_printed(protocol: str, dataset: str) -> list[PrintedCell]:
    """Cells of a paper (spn, distill, deepgin, mhtma) on a dataset, by any of its names, in the order of the tables.

    `places365-small` and `Places2` are one dataset here, `celeba` and `celebahq` are two; empty where nothing is
    printed.
    """
    wanted = _simplify(dataset)
    return [cell for cell in CELLS if cell.paper == protocol and wanted in _list_names(cell.dataset)]


def _list_names(dataset: str) -> set[str]:
    return {_simplify(name) for name in (dataset, *_OTHER_NAMES.get(dataset, ()))}


def _simplify(name: str) -> str:
    """A name without case and marks."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
