"""What a training says of itself on held-out photos, always the same ones: scores by hole ratio, and fills to look at.

In: the generator at a checkpoint. Out: metrics over the pairs of some photos, all ranks together, and of the first of
them sheets of pictures: fills, and what the network has made on the way.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infra.world import World
from nets.filling import NOTHING
from nets.objective import Outputs
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.models import Pictures, list_optional_inputs, make_network_filler
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK, Pairs, count_chunks, read_chunk
from pipelines.evaluation.protocol import sketch_photos
from pipelines.manifest import Dataset
from pipelines.masks.bins import BINS, find_bin
from pipelines.noise import SampleNoise
from pipelines.pictures import render_grid, whiten_hole
from pipelines.records import UsageError
from pipelines.stream.geometry import HELD_OUT
from pipelines.training.validation import draw_sampled_priors, maps_of, average_temperatures
from pipelines.training.recipe import TrainRecipe

AIM: Final = "val_psnr_hole"
"""The metric by which one checkpoint is better than another: the mean PSNR in the hole over all pairs, in dB."""
FILLS: Final = "fills"
MAPS: Final = "maps"
DRAWS: Final = "draws"
"""The sheets: priors and weights of fusion are maps; networks without any have fills alone. Draws are two priors and
fills of each hole, of networks that draw them (SPN, Fig. 11)."""
_METRICS: Final = ("psnr_hole", "l1_hole")
_ALL: Final = "all"
_NUM_ROWS: Final = 12
_NUM_DRAWN: Final = 4
"""Rows of the sheet of draws: a prior of 256x256 takes seconds to cluster."""


@dataclass(frozen=True)
class Observation:
    """Scores by name, on all ranks; on rank 0 sheets as PNG, by what they show, and means of temperatures."""

    values: dict[str, float]
    sheets: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Held-out photos of a dataset, in whole chunks, as `lacuna evaluate --resize` of this name shows them."""

    dataset: Dataset
    resize: str
    size_px: int
    num_chunks: int

    def observe(self, generator: nn.Module, world: World) -> Observation:
        """Fills the pairs, each rank its chunks. A network that takes strokes sees the photos' own edges."""
        fill = make_network_filler(generator.eval(), self.size_px)
        sums, shown = torch.zeros(len(BINS) + 1, len(_METRICS) + 1, dtype=torch.float64), Observation({})
        for number in range(world.rank, min(self.num_chunks, count_chunks(self.dataset, "val")), world.size):
            pairs = read_chunk(self.dataset.uri, "val", self.resize, number)
            with torch.compiler.set_stance("force_eager"):  # a training's compiled code is for its own batches
                fills = fill(pairs.images, pairs.masks, _beside(generator, pairs))
                shown = _shown(generator, pairs, fills) if number == 0 else shown
            sums += _sums(pairs, fills)
        generator.train()
        world.average([sums])
        return Observation(dict(_means(sums)) | shown.values, shown.sheets)


def open_validator(dataset: Dataset, recipe: TrainRecipe) -> Watch | None:
    """The recipe's held-out photos, upright; None where the dataset has none with masks of its size."""
    stream = recipe.stream
    resize = HELD_OUT.get(stream.resize, stream.resize)
    try:
        pairs = read_chunk(dataset.uri, "val", resize, 0)
    except UsageError:
        return None
    fits = pairs.images.shape[1] == stream.size_px
    return Watch(dataset, resize, stream.size_px, -(-recipe.watched_photos // PHOTOS_PER_CHUNK)) if fits else None


def _beside(generator: nn.Module, pairs: Pairs) -> Mapping[str, Tensor]:
    return {"sketch": sketch_photos(pairs.images)} if "sketch" in list_optional_inputs(generator) else NOTHING


def _sums(pairs: Pairs, fills: Pictures) -> torch.Tensor:
    """Of each bin, and of all pairs: how many there are, and the sum of each metric."""
    names = [*BINS, _ALL]
    sums = torch.zeros(len(names), len(_METRICS) + 1, dtype=torch.float64)
    for image, mask, fill in zip(pairs.images, pairs.masks, fills, strict=True):
        scores = measure(image, mask, fill)
        row = torch.tensor([1.0, *(scores[m] for m in _METRICS)], dtype=torch.float64)
        for name in (find_bin(mask), _ALL):
            sums[names.index(name)] += row
    return sums


def _means(sums: torch.Tensor) -> Iterator[tuple[str, float]]:
    for name, (count, *totals) in zip([*BINS, _ALL], sums.tolist(), strict=True):
        if count:
            suffix = "" if name == _ALL else f"_{name}"
            yield from ((f"val_{m}{suffix}", total / count) for m, total in zip(_METRICS, totals, strict=True))


def _shown(generator: nn.Module, pairs: Pairs, fills: Pictures) -> Observation:
    """Sheets of the first photos, each with another of its masks."""
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    chosen = np.array([i for i in range(len(pairs.keys)) if i % per_photo == i // per_photo % per_photo][:_NUM_ROWS])
    some = _select_pairs(pairs, chosen)
    size_px = some.images.shape[1]
    columns = [("photo", some.images), ("hole", whiten_hole(some.images, some.masks)), ("fill", fills[chosen])]
    outputs = _outputs(generator, some, _beside(generator, some))
    maps = maps_of(outputs, size_px)
    sheets = {FILLS: columns} | ({MAPS: columns[1:] + maps} if maps else {})
    few = _select_pairs(some, np.arange(min(_NUM_DRAWN, len(chosen))))
    if samples := _sample_outputs(generator, few):
        sheets[DRAWS] = [(title, of[:_NUM_DRAWN]) for title, of in columns[:2]] + draw_sampled_priors(samples, size_px)
    enlarge = max(1, 128 // size_px)
    return Observation(
        dict(average_temperatures(outputs)), {of: render_grid(sheet, enlarge) for of, sheet in sheets.items()}
    )


def _select_pairs(pairs: Pairs, index: NDArray[np.int64]) -> Pairs:
    keys, recipes = (tuple(of[i] for i in index) for of in (pairs.keys, pairs.specs))
    return Pairs(keys, recipes, pairs.images[index], pairs.masks[index])


def _sample_outputs(generator: Any, pairs: Pairs) -> list[Outputs]:
    """Outputs for the noise of an evaluation's first two fills; none from a network that takes no noise."""
    if "noise" not in list_optional_inputs(generator):
        return []
    shape = generator.get_noise_shape(torch.from_numpy(pairs.images).permute(0, 3, 1, 2))
    samples = ([(*pair, number) for pair in zip(pairs.keys, pairs.specs, strict=True)] for number in range(2))
    return [_outputs(generator, pairs, {"noise": SampleNoise(0, of).normal("fill", *shape)}) for of in samples]


@torch.inference_mode()
def _outputs(generator: nn.Module, pairs: Pairs, beside: Mapping[str, Tensor]) -> Outputs:
    """All that the network makes of the pairs."""
    device = next(generator.parameters()).device
    image, mask = (torch.from_numpy(x).to(device) for x in (pairs.images, pairs.masks))
    given = {name: x.to(device) for name, x in beside.items()}
    outputs: Outputs = generator(image.permute(0, 3, 1, 2).float() / 255, mask.unsqueeze(1).float(), **given)
    return outputs
