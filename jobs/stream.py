"""`lacuna stream`: datasets -> a contact sheet of what a network would see, photo by photo, mask by mask."""

from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from infra import storage
from infra.uris import refuse_read_only
from infra.world import World
from jobs.cli import run_as_module
from jobs.progress import say
from jobs.recipes import find_recipe
from pipelines.manifest import open_dataset
from pipelines.pictures import render_grid, whiten_hole
from pipelines.records import Batch, UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, refuse_missing_planes

_MAX_SHOWN: Final = 256


@dataclass(frozen=True)
class Arguments:
    """Show the batches of a training before it is paid for: the same photos, crops, flips and masks at a clock."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """URIs of datasets."""
    show: int = 8
    """How many photos."""
    recipe: str | None = None
    """Name of the recipe whose stream and seed it is; the stream's defaults and seed 0 if not given."""
    images_seen: int = 0
    """The clock of the training at which to look."""
    mix: tuple[int, ...] = ()
    """So many photos of each dataset in turn; all photos alike if not given."""
    out: str = "stream.png"
    """URI of the picture."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Draws the sheet and reports what is on it."""
    if not arguments.data:
        raise UsageError("no dataset given: name the URI of at least one")
    if not 1 <= arguments.show <= _MAX_SHOWN:
        raise UsageError(f"--show is {arguments.show}: a sheet holds from 1 to {_MAX_SHOWN} photos")
    refuse_read_only(arguments.out)
    config, seed = StreamConfig(), 0
    if arguments.recipe is not None:
        recipe = find_recipe(arguments.recipe)
        config, seed = recipe.stream, recipe.seed
    datasets = tuple(open_dataset(uri) for uri in arguments.data)
    for dataset in datasets:
        refuse_missing_planes(dataset, config)
    stream = Stream(datasets, config, seed, arguments.mix)
    (batch,) = islice(stream.batches(arguments.images_seen, arguments.show, World()), 1)
    storage.publish(arguments.out, sheet(batch, config))
    for incident in batch.incidents:
        say(f"warning: {incident}")
    return {
        "picture": arguments.out,
        "keys": list(batch.keys),
        "positions": list(batch.positions),
        "hole_ratios": {name: _ratios(batch.mask[:, k]) for k, name in enumerate(config.masks)},
        "num_samples": stream.num_samples,
        "incidents": list(batch.incidents),
    }


def sheet(batch: Batch, config: StreamConfig) -> bytes:
    """A PNG with a row for each photo: itself, its planes, and each of its masks alone and as a hole."""
    image = _pictures(batch.image)
    columns = [("photo", image)]
    columns += [(name, _pictures(plane)) for name, plane in batch.planes.items() if plane.shape[2] == config.size_px]
    for number, name in enumerate(config.masks):
        mask = batch.mask[:, number].numpy()
        columns += [(name, np.repeat(mask[..., None] * np.uint8(255), 3, axis=3)), ("masked", whiten_hole(image, mask))]
    return render_grid(columns, enlarge=max(1, 128 // config.size_px))


def _pictures(stack: torch.Tensor) -> NDArray[np.uint8]:
    """uint8 NCHW -> NHWx3: grey ones get three channels, a fourth channel goes."""
    pictures = stack.permute(0, 2, 3, 1).numpy()
    return np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else np.ascontiguousarray(pictures[..., :3])


def _ratios(masks: torch.Tensor) -> list[float]:
    return [round(float(mask.float().mean()), 4) for mask in masks]


if __name__ == "__main__":
    run_as_module("stream")
