"""What a training says of itself on held-out photos, always the same ones: scores by hole ratio, and fills to look at.

In: the generator at a checkpoint. Out: metrics over the pairs of some photos, all ranks together, and of the first of
them a sheet of pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from infra.world import World
from pipelines.evaluation.asking import sketches_of
from pipelines.evaluation.fillers import NOTHING, Filler, Pictures, network_filler, taken_by
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK, Pairs, num_chunks, read_chunk
from pipelines.manifest import Dataset
from pipelines.masks.bins import BINS, bin_of
from pipelines.pictures import grid_png, with_hole
from pipelines.records import Refused
from pipelines.training.recipe import TrainRecipe

AIM: Final = "val_psnr_hole"
"""The metric by which one checkpoint is better than another: the mean PSNR in the hole over all pairs, in dB."""
_METRICS: Final = ("psnr_hole", "l1_hole")
_ALL: Final = "all"
_NUM_ROWS: Final = 12


@dataclass(frozen=True)
class Observation:
    """Scores by name, on all ranks, and a sheet of fills as PNG, on rank 0."""

    values: dict[str, float]
    picture: bytes | None


@dataclass(frozen=True)
class Watch:
    """Held-out photos of a dataset, in whole chunks, as the recipe shows them."""

    dataset: Dataset
    resize: str
    size_px: int
    num_chunks: int

    def observe(self, generator: nn.Module, world: World) -> Observation:
        """Fills the pairs, each rank its chunks. A network that takes strokes sees the photos' own edges."""
        fill = network_filler(generator.eval(), self.size_px)
        sums, picture = torch.zeros(len(BINS) + 1, len(_METRICS) + 1, dtype=torch.float64), None
        for number in range(world.rank, min(self.num_chunks, num_chunks(self.dataset, "val")), world.size):
            pairs = read_chunk(self.dataset.uri, "val", self.resize, number)
            with torch.compiler.set_stance("force_eager"):  # a training's compiled code is for its own batches
                fills = _filled(fill, generator, pairs, self.size_px)
            picture = _sheet(pairs, fills) if number == 0 else picture
            sums += _sums(pairs, fills)
        generator.train()
        world.average([sums])
        return Observation(dict(_means(sums)), picture)


def watch_of(dataset: Dataset, recipe: TrainRecipe) -> Watch | None:
    """The recipe's held-out photos; None where the dataset has none with masks of its size."""
    stream = recipe.stream
    resize = "centre-square" if stream.resize == "random-square" else stream.resize
    try:
        pairs = read_chunk(dataset.uri, "val", resize, 0)
    except Refused:
        return None
    fits = pairs.images.shape[1] == stream.size_px
    return Watch(dataset, resize, stream.size_px, -(-recipe.watched_photos // PHOTOS_PER_CHUNK)) if fits else None


def _filled(fill: Filler, generator: nn.Module, pairs: Pairs, size_px: int) -> Pictures:
    beside = {"sketch": sketches_of(pairs.images)} if "sketch" in taken_by(generator, size_px) else NOTHING
    return fill(pairs.images, pairs.masks, beside)


def _sums(pairs: Pairs, fills: Pictures) -> torch.Tensor:
    """Of each bin, and of all pairs: how many there are, and the sum of each metric."""
    names = [*BINS, _ALL]
    sums = torch.zeros(len(names), len(_METRICS) + 1, dtype=torch.float64)
    for image, mask, fill in zip(pairs.images, pairs.masks, fills, strict=True):
        scores = measure(image, mask, fill)
        row = torch.tensor([1.0, *(scores[m] for m in _METRICS)], dtype=torch.float64)
        for name in (bin_of(mask), _ALL):
            sums[names.index(name)] += row
    return sums


def _means(sums: torch.Tensor) -> Iterator[tuple[str, float]]:
    for name, (count, *totals) in zip([*BINS, _ALL], sums.tolist(), strict=True):
        if count:
            suffix = "" if name == _ALL else f"_{name}"
            yield from ((f"val_{m}{suffix}", total / count) for m, total in zip(_METRICS, totals, strict=True))


def _sheet(pairs: Pairs, fills: Pictures) -> bytes:
    """The first photos, each with another of its masks."""
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    chosen = np.array([i for i in range(len(pairs.keys)) if i % per_photo == i // per_photo % per_photo][:_NUM_ROWS])
    images, masks = pairs.images[chosen], pairs.masks[chosen]
    columns = [("photo", images), ("hole", with_hole(images, masks)), ("fill", fills[chosen])]
    return grid_png(columns, enlarge=max(1, 128 // images.shape[1]))
