"""Validation on held-out photos, always the same ones: scores by hole ratio, and sheets of pictures.

In: the generator at a checkpoint. Out: metrics over the pairs of some photos, all ranks together; sheets of the first
of them: fills, and maps on the way to them: SPN's priors, DGI's weights of fusion, MHTMA's temperatures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infra.world import World
from nets.objective import Outputs
from pipelines.evaluation.guides import make_map_guides, sketch_photos
from pipelines.evaluation.metrics import measure_pairs
from pipelines.evaluation.models import Pictures, list_optional_inputs, make_network_filler
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK, Pairs, count_chunks, read_chunk, refuse_missing_maps
from pipelines.manifest import Dataset
from pipelines.masks.bins import BINS, find_bin
from pipelines.noise import SampleNoise
from pipelines.pictures import color_clusters, render_grid, whiten_hole
from pipelines.records import UsageError
from pipelines.stream.geometry import HELD_OUT
from pipelines.training.recipe import TrainRecipe

BEST_METRIC: Final = "val_psnr_hole"
"""The metric by which one checkpoint is better than another: the mean PSNR in the hole over all pairs, in dB."""
FILLS: Final = "fills"
MAPS: Final = "maps"
DRAWS: Final = "draws"
"""The sheets. Maps are priors and weights of fusion; networks without any have fills alone. Draws are two priors and
fills of each hole, of networks that sample them (SPN, Fig. 11)."""
_METRICS: Final = ("psnr_hole", "l1_hole")
_ALL: Final = "all"
_NUM_ROWS: Final = 12
_NUM_DRAWN: Final = 4
"""Rows of the sheet of draws: a prior of 256x256 takes seconds to cluster."""


@dataclass(frozen=True)
class Validation:
    """Scores by name, on all ranks; on rank 0 also means of temperatures, and sheets as PNG by name."""

    values: dict[str, float]
    sheets: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Validator:
    """Held-out photos of a dataset, in whole chunks, as `lacuna evaluate --resize` of this name reads them."""

    dataset: Dataset
    resize: str
    size_px: int
    num_chunks: int
    with_maps: bool = False
    """Whether the network is given their segmentation maps."""

    def score(self, generator: nn.Module, world: World) -> Validation:
        """Fill the pairs, each rank its chunks, and score them. A network that takes strokes gets the photos' edges."""
        # Fill and score this rank's chunks.
        fill = make_network_filler(generator.eval(), self.size_px)
        sums, first = torch.zeros(len(BINS) + 1, len(_METRICS) + 1, dtype=torch.float64), Validation({})
        for number in range(world.rank, min(self.num_chunks, count_chunks(self.dataset, "val")), world.size):
            pairs = read_chunk(self.dataset.uri, "val", self.resize, number, self.with_maps)
            with torch.compiler.set_stance("force_eager"):  # a training's compiled code is for its own batches
                fills = fill(pairs.images, pairs.masks, _make_guides(generator, pairs))
                first = _draw_sheets(generator, pairs, fills) if number == 0 else first
            sums += _sum_scores(pairs, fills)
        generator.train()
        # Average over all pairs of all ranks.
        world.average([sums])
        return Validation(dict(_average_scores(sums)) | first.values, first.sheets)


def open_validator(dataset: Dataset, recipe: TrainRecipe) -> Validator | None:
    """Validator of the recipe, on upright photos.

    None where the dataset holds out none with masks of its size, or one lacks a map that the recipe needs.
    """
    stream = recipe.stream
    resize, with_maps = HELD_OUT.get(stream.resize, stream.resize), "segmentation" in stream.planes
    try:
        if with_maps:
            refuse_missing_maps(dataset.uri, "val")
        pairs = read_chunk(dataset.uri, "val", resize, 0)
    except UsageError:
        return None
    chunks = -(-recipe.watched_photos // PHOTOS_PER_CHUNK)
    fits = pairs.images.shape[1] == stream.size_px
    return Validator(dataset, resize, stream.size_px, chunks, with_maps) if fits else None


def _make_guides(generator: nn.Module, pairs: Pairs) -> Mapping[str, Tensor]:
    """Inputs of the generator beside photo and mask."""
    if "sketch" in list_optional_inputs(generator):
        return {"sketch": sketch_photos(pairs.images)}
    return make_map_guides(pairs)


def _sum_scores(pairs: Pairs, fills: Pictures) -> torch.Tensor:
    """Number of pairs and sum of each metric, a row for each bin and one for all pairs."""
    names = [*BINS, _ALL]
    sums = torch.zeros(len(names), len(_METRICS) + 1, dtype=torch.float64)
    columns = measure_pairs(pairs.images, pairs.masks, fills, _METRICS)
    rows = torch.tensor(np.stack([np.ones(len(fills)), *columns.values()], axis=1))
    for mask, row in zip(pairs.masks, rows, strict=True):
        for name in (find_bin(mask), _ALL):
            sums[names.index(name)] += row
    return sums


def _average_scores(sums: torch.Tensor) -> Iterator[tuple[str, float]]:
    for name, (count, *totals) in zip([*BINS, _ALL], sums.tolist(), strict=True):
        if count:
            suffix = "" if name == _ALL else f"_{name}"
            yield from ((f"val_{m}{suffix}", total / count) for m, total in zip(_METRICS, totals, strict=True))


def _draw_sheets(generator: nn.Module, pairs: Pairs, fills: Pictures) -> Validation:
    """Validation with sheets of the first photos, each with another of its masks, and with mean temperatures."""
    # Draw the fills.
    per_photo = len(pairs.keys) // len(set(pairs.keys))
    chosen = np.array([i for i in range(len(pairs.keys)) if i % per_photo == i // per_photo % per_photo][:_NUM_ROWS])
    some = pairs.select(chosen)
    size_px = some.images.shape[1]
    columns = [("photo", some.images), ("hole", whiten_hole(some.images, some.masks)), ("fill", fills[chosen])]
    # Draw maps and samples of networks that have them.
    outputs = _run_generator(generator, some, _make_guides(generator, some))
    maps = draw_maps(outputs, size_px)
    sheets = {FILLS: columns} | ({MAPS: columns[1:] + maps} if maps else {})
    few = some.select(np.arange(min(_NUM_DRAWN, len(chosen))))
    if samples := _sample_outputs(generator, few):
        drawn = draw_sampled_priors(samples, size_px)
        sheets[DRAWS] = [(title, pictures[:_NUM_DRAWN]) for title, pictures in columns[:2]] + drawn
    enlarge = max(1, 128 // size_px)
    return Validation(
        dict(average_temperatures(outputs)), {name: render_grid(sheet, enlarge) for name, sheet in sheets.items()}
    )


def _sample_outputs(generator: Any, pairs: Pairs) -> list[Outputs]:
    """Outputs for the noise of an evaluation's first two fills; none from a network that takes no noise."""
    if "noise" not in list_optional_inputs(generator):
        return []
    shape = generator.get_noise_shape(torch.from_numpy(pairs.images).permute(0, 3, 1, 2))
    samples = ([(*pair, number) for pair in zip(pairs.keys, pairs.specs, strict=True)] for number in range(2))
    return [_run_generator(generator, pairs, {"noise": SampleNoise(0, s).normal("fill", *shape)}) for s in samples]


@torch.inference_mode()
def _run_generator(generator: nn.Module, pairs: Pairs, guides: Mapping[str, Tensor]) -> Outputs:
    """All outputs of the network for the pairs."""
    device = next(generator.parameters()).device
    image, mask = (torch.from_numpy(x).to(device) for x in (pairs.images, pairs.masks))
    on_device = {name: x.to(device) for name, x in guides.items()}
    outputs: Outputs = generator(image.permute(0, 3, 1, 2).float() / 255, mask.unsqueeze(1).float(), **on_device)
    return outputs


def draw_maps(outputs: Outputs, size_px: int) -> list[tuple[str, Pictures]]:
    """Columns of (title, uint8 NxSxSx3), a square for each pixel of a map; none for networks without such maps."""
    return [
        (name, np.stack([_enlarge(draw(values), size_px) for values in outputs[name].float().cpu().numpy()]))
        for name in sorted(outputs)
        for kind, draw in _DRAW.items()
        if name.startswith(kind)
    ]


def draw_sampled_priors(samples: Sequence[Outputs], size_px: int) -> list[tuple[str, Pictures]]:
    """Columns of (title, uint8 NxSxSx3): the finest prior and the fill of each sample (SPN, Fig. 11)."""
    columns = []
    for number, outputs in enumerate(samples, start=1):
        finest = min(name for name in outputs if name.startswith("prior_"))
        priors = [_enlarge(color_clusters(values), size_px) for values in outputs[finest].float().cpu().numpy()]
        fills = outputs["inpainted"].clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        columns += [(f"{finest}, {number}", np.stack(priors)), (f"fill {number}", fills)]
    return columns


def average_temperatures(outputs: Outputs) -> Iterator[tuple[str, float]]:
    """Yield name and mean of the temperature of each head of MHTMA's attention (Eq. 13)."""
    temperatures: Tensor | None = outputs.get("temperatures")  # N x heads
    if temperatures is not None:
        means = temperatures.mean(dim=0).tolist()
        yield from ((f"val_temperature_{head}", mean) for head, mean in enumerate(means, start=1))


def _draw_gray(weights: NDArray[np.float32]) -> Pictures:
    """1xHxW in [0, 1] -> HxWx3: white where attention counts, black where the convolution does (Eq. 10)."""
    levels = np.rint(weights[0].clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


_DRAW: Final[dict[str, Callable[[NDArray[np.float32]], Pictures]]] = {"prior_": color_clusters, "fusion_": _draw_gray}
"""By the first letters of the names of outputs."""


def _enlarge(picture: Pictures, size_px: int) -> Pictures:
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_NEAREST), np.uint8)
