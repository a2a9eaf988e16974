"""Picture of a comparison: photos, holes, and the fills of some models; one photo at its own size, too."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from pipelines.evaluation.models import Model, open_model
from pipelines.evaluation.pairs import Pairs, read_chunk, read_pairs
from pipelines.pictures import Columns, draw_grid, encode_sheets, whiten_hole

NUM_ROWS: Final = 9
_NUM_BESIDE: Final = 2
"""Pictures of a photo's own size that stand beside each other."""
_OWN_ROW: Final = 1
"""The row of squares whose photo is shown at its own size, or the first where there is one row."""


def render_fills(data: str, models: Mapping[str, str], resize: str = "centre-square") -> bytes:
    """PNG with a row for some held-out pairs of the dataset (each mask family in turn) and a column per model.

    Below, one of the photos whole, filled at its own size, with the same mask drawn at that size. `models`: column
    title -> model as on the command line.
    """
    opened = {title: open_model(name) for title, name in models.items()}
    squares = _select_some(read_chunk(data, "val", resize, 0))
    enlarge = max(1, 128 // squares.images.shape[1])
    photo = [("photo", squares.images)]
    own = _find_own_size_pair(data, resize, squares)
    (title, hole), *fills = _fill_columns(own, opened)
    whole = [(f"{title}, {own.masks.shape[2]}x{own.masks.shape[1]} px", hole), *fills]
    below = [whole[start : start + _NUM_BESIDE] for start in range(0, len(whole), _NUM_BESIDE)]
    return encode_sheets([draw_grid([*photo, *_fill_columns(squares, opened)], enlarge), *map(draw_grid, below)])


def _select_some(pairs: Pairs) -> Pairs:
    """One pair of each of the first photos, with another of its masks each time."""
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    photos = range(min(NUM_ROWS, len(set(pairs.keys))))
    return pairs.select(np.array([photo * per_photo + photo % per_photo for photo in photos]))


def _find_own_size_pair(data: str, resize: str, squares: Pairs) -> Pairs:
    """The pair of one of the squares at the photo's own size."""
    row = min(_OWN_ROW, len(squares.keys) - 1)
    wanted = (squares.keys[row],), (squares.specs[row],)
    return next(p for p in read_pairs(data, "val", resize, "own", 0) if (p.keys, p.specs) == wanted)


def _fill_columns(pairs: Pairs, models: Mapping[str, Model]) -> Columns:
    """The holes of the pairs, and their fills by each model, below titles."""
    fills = {title: model.fill(pairs.images, pairs.masks) for title, model in models.items()}
    return [("hole", whiten_hole(pairs.images, pairs.masks)), *fills.items()]
