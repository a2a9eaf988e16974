"""What a person sees of a training while it runs: the same few held-out pairs, filled at every checkpoint."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import nn

from pipelines.evaluation.asking import sketches_of
from pipelines.evaluation.fillers import NOTHING, network_filler, taken_by
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.pairs import read_chunk
from pipelines.manifest import Dataset
from pipelines.pictures import grid_png, with_hole
from pipelines.records import Refused

_NUM_ROWS: Final = 12


@dataclass(frozen=True)
class Observation:
    """A sheet of fills as PNG, and the mean PSNR in their holes in dB."""

    picture: bytes
    psnr_hole: float


def observe_fills(generator: nn.Module, dataset: Dataset, resize: str, size_px: int) -> Observation | None:
    """Fills the first held-out pairs of the dataset; None where it has none of this size.

    A network that takes strokes sees the photos' own edges.
    """
    try:
        pairs = read_chunk(dataset.uri, "val", resize, 0)
    except Refused:
        return None
    if pairs.images.shape[1] != size_px:
        return None
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    chosen = np.array([i for i in range(len(pairs.keys)) if i % per_photo == i // per_photo % per_photo][:_NUM_ROWS])
    images, masks = pairs.images[chosen], pairs.masks[chosen]
    beside = {"sketch": sketches_of(images)} if "sketch" in taken_by(generator, size_px) else NOTHING
    fills = network_filler(generator.eval(), size_px)(images, masks, beside)
    generator.train()
    scores = [measure(*pair)["psnr_hole"] for pair in zip(images, masks, fills, strict=True)]
    columns = [("photo", images), ("hole", with_hole(images, masks)), ("fill", fills)]
    return Observation(grid_png(columns, enlarge=max(1, 128 // size_px)), float(np.mean(scores)))
