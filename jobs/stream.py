"""`lacuna stream`: datasets -> a contact sheet of the photos and masks that a training would see."""

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
from jobs.options import URI, Name
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
    """Write a picture of the photos, crops, flips and masks that a training sees, before it is started."""

    data: tyro.conf.Positional[tuple[URI, ...]]
    """URIs of datasets."""
    show: int = 8
    """Number of photos."""
    recipe: Name | None = None
    """Name of the recipe that sets stream and seed; by default the stream's defaults and seed 0."""
    images_seen: int = 0
    """Number of images that the training has seen before those shown."""
    mix: tuple[int, ...] = ()
    """Numbers of photos taken from each dataset in turn; by default photos are drawn from all alike."""
    out: URI = "stream.png"
    """File or URI of the picture."""


def check(arguments: Arguments) -> tuple[StreamConfig, int]:
    """The stream's config and seed; raises UsageError for arguments that no dataset makes possible."""
    if not arguments.data:
        raise UsageError("no dataset given: give the URI of at least one")
    if not 1 <= arguments.show <= _MAX_SHOWN:
        raise UsageError(f"--show is {arguments.show}: it must be from 1 to {_MAX_SHOWN}")
    refuse_read_only(arguments.out)
    if arguments.recipe is None:
        return StreamConfig(), 0
    recipe = find_recipe(arguments.recipe)
    return recipe.stream, recipe.seed


def run(arguments: Arguments) -> dict[str, Any]:
    """Write the contact sheet and report what it shows."""
    # Check the arguments and the datasets.
    config, seed = check(arguments)
    datasets = tuple(open_dataset(uri) for uri in arguments.data)
    for dataset in datasets:
        refuse_missing_planes(dataset, config)
    # Read one batch and draw it.
    stream = Stream(datasets, config, seed, arguments.mix)
    (batch,) = islice(stream.batches(arguments.images_seen, arguments.show, World()), 1)
    storage.publish(arguments.out, draw_sheet(batch, config))
    for incident in batch.incidents:
        say(f"warning: {incident}")
    return {
        "picture": arguments.out,
        "keys": list(batch.keys),
        "positions": list(batch.positions),
        "hole_ratios": {
            name: [round(float(mask.float().mean()), 4) for mask in batch.mask[:, number]]
            for number, name in enumerate(config.masks)
        },
        "num_samples": stream.num_samples,
        "incidents": list(batch.incidents),
    }


def draw_sheet(batch: Batch, config: StreamConfig) -> bytes:
    """PNG with a row per photo: the photo, its planes, and each of its masks alone and as a hole."""
    image = _to_rgb(batch.image)
    columns = [("photo", image)]
    columns += [(name, _to_rgb(plane)) for name, plane in batch.planes.items() if plane.shape[2] == config.size_px]
    for number, name in enumerate(config.masks):
        mask = batch.mask[:, number].numpy()
        columns += [(name, np.repeat(mask[..., None] * np.uint8(255), 3, axis=3)), ("masked", whiten_hole(image, mask))]
    return render_grid(columns, enlarge=max(1, 128 // config.size_px))


def _to_rgb(stack: torch.Tensor) -> NDArray[np.uint8]:
    """Pictures uint8 NHWx3 from uint8 NCHW: gray ones get three channels, a fourth channel is dropped."""
    pictures = stack.permute(0, 2, 3, 1).numpy()
    return np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else np.ascontiguousarray(pictures[..., :3])


if __name__ == "__main__":
    run_as_module("stream")
