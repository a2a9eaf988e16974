"""The picture of a comparison: photo, hole, and the fills of some models, side by side."""

import numpy as np

from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import read_chunk
from pipelines.pictures import render_grid, whiten_hole

NUM_ROWS = 9


def render_fills(data: str, models: dict[str, str], resize: str = "centre-square") -> bytes:
    """A PNG with a row for some held-out pairs of the dataset (each mask family in turn) and a column per model.

    `models`: column title -> model as on the command line.
    """
    pairs = read_chunk(data, "val", resize, 0)
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    photos = min(NUM_ROWS, len(set(pairs.keys)))
    chosen = np.array([photo * per_photo + photo % per_photo for photo in range(photos)])
    images, masks = pairs.images[chosen], pairs.masks[chosen]
    columns = [("photo", images), ("hole", whiten_hole(images, masks))]
    columns += [(title, open_model(name).fill(images, masks)) for title, name in models.items()]
    return render_grid(columns, enlarge=max(1, 128 // images.shape[1]))
