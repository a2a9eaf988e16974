"""The stream: what the optimizer sees, as a function of (datasets, config, seed, images seen).

In: committed datasets. Out: `Batch`es of this rank, for ever; the caller stops. Positions decide everything: the
sample, its crop, its flips and its masks, so any number of ranks and loader processes draws the same global sequence.
"""

from collections.abc import Iterator
from itertools import count
from typing import Final

import numpy as np
import torch

from infra.world import World
from pipelines.decoding import Picture
from pipelines.keyed_rng import KeyedRng, derive_seed
from pipelines.manifest import Dataset
from pipelines.masks.spec import MaskSpec, draw_masks, make_mask_spec
from pipelines.records import Batch, CorruptDataError, UsageError
from pipelines.stream.augmenting import Augmentation
from pipelines.stream.config import LARGE, PLANES, StreamConfig
from pipelines.stream.geometry import RESIZES, View, decode, decode_plane, show
from pipelines.stream.loading import load
from pipelines.stream.mixing import Mixture
from pipelines.stream.order import Order
from pipelines.stream.reading import ShardReader
from pipelines.stream.sketching import draw_sketch

_MAX_REPLACEMENTS: Final = 100
_MAX_WEIGHTS: Final = 1000
_RANGES: Final = {"images_seen": (0, 2**62), "batch_size": (1, 2**20), "num_processes": (0, 1024)}


class Stream:
    """The training samples of some datasets, in order."""

    def __init__(
        self, datasets: tuple[Dataset, ...], config: StreamConfig, seed: int, weights: tuple[int, ...] = ()
    ) -> None:
        """`weights`: so many photos of each dataset in turn; if empty all photos count alike, of whatever dataset.

        Raises UsageError where there is nothing to read, and for weights and transforms that cannot be.
        """
        self._config, self._seed = config, seed
        self._from_px = config.resize_px or config.size_px
        self._augmentation = Augmentation(config, seed)
        self._order = _order(datasets, config, seed, weights)
        self.reader = ShardReader(datasets, "train")

    @property
    def num_samples(self) -> int:
        """Photos in an epoch."""
        return self._order.num_samples

    def batches(self, images_seen: int, batch_size: int, world: World, num_processes: int = 0) -> Iterator[Batch]:
        """This rank's share of every global batch of `batch_size` photos from the counter on, without end.

        `num_processes` make them ahead; with none, this process makes them when asked. Raises CorruptDataError where a
        photo is, unless the config says to replace it, and OSError where a store does not answer for long; UsageError
        at once where a number cannot be.
        """
        for (name, (least, most)), value in zip(_RANGES.items(), (images_seen, batch_size, num_processes), strict=True):
            if not least <= value <= most:
                raise UsageError(f"{name} is {value}: it must be from {least} to {most}")
        starts = count(images_seen, batch_size)
        steps = ([p for p in range(start, start + batch_size) if p % world.size == world.rank] for start in starts)
        return load(self._batch, steps, self._num_bytes(-(-batch_size // world.size)), num_processes)

    def _num_bytes(self, num_photos: int) -> int:
        """Of the images and masks of so many photos."""
        return num_photos * (3 + len(self._config.masks)) * self._config.size_px**2

    def _batch(self, positions: list[int], memory: torch.Tensor) -> Batch:
        """The photos at these positions, their images and masks in the memory, uint8."""
        image, masks = self._parts(memory, len(positions))
        keys, incidents, planes = [], [], []
        for position, into in zip(positions, image.numpy(), strict=True):
            key, others, told = self._sample(position, into)
            keys.append(key)
            planes.append(others)
            incidents += told
        recipes = [self._mask(family, position) for position in positions for family in self._config.masks]
        for into, mask in zip(masks.flatten(0, 1).numpy(), draw_masks(recipes), strict=True):
            into[:] = mask
        names = planes[0] if planes else ()  # of a batch smaller than the world some ranks have no share
        stacked = {name: _channels_first(torch.from_numpy(np.stack([p[name] for p in planes]))) for name in names}
        incidents += self.reader.traffic.drain()
        return Batch(tuple(keys), tuple(positions), _channels_first(image), masks, stacked, tuple(incidents))

    def _parts(self, memory: torch.Tensor, num_photos: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images NHWC and masks NKHW, side by side in the memory."""
        size, num_masks = self._config.size_px, len(self._config.masks)
        pixels = num_photos * size**2
        image, masks = memory[: 3 * pixels], memory[3 * pixels : (3 + num_masks) * pixels]
        return image.view(num_photos, size, size, 3), masks.view(num_photos, num_masks, size, size)

    def _sample(self, position: int, into: Picture) -> tuple[str, dict[str, Picture], list[str]]:
        """Puts the image of a global position into SxSx3; returns its key, its planes and what was made good."""
        for stretch in self._order.ahead(position):
            self.reader.fetch_ahead(stretch)
        key, whole, planes, told = self._read(position, into)
        view = self._view(whole, position)
        pictures = {name: show(plane, view, nearest=True) for name, plane in planes.items()}
        if self._config.large_px is not None:
            pictures[LARGE] = show(whole, view._replace(size_px=self._config.large_px))
        pictures["image"] = show(whole, view)
        if self._config.augment:
            pictures = self._augmentation.apply(pictures, position)
        image = pictures.pop("image")
        if "sketch" in self._config.sketch_planes:
            pictures["sketch"] = draw_sketch(image, pictures.get("edge"), self._config.sketch_threshold)
        if not np.shares_memory(image, into):
            into[:] = image
        return key, pictures, told

    def _view(self, whole: Picture, position: int) -> View:
        policy = RESIZES[self._config.resize]
        return policy(whole.shape[0], whole.shape[1], self._from_px, KeyedRng(self._seed, "crop", position))

    def _read(self, position: int, into: Picture) -> tuple[str, Picture, dict[str, Picture], list[str]]:
        """Key, picture and planes of the sample at a position, or of the next whole one of its lane; and what was not.

        Which stands in depends on what is damaged alone, so it is the same for all worlds.
        """
        faults: list[CorruptDataError] = []
        for number in range(_MAX_REPLACEMENTS):
            place = self._order.locate(position + number * self._config.num_lanes)
            try:
                key, picture, planes = self._decoded(*place, into)
            except CorruptDataError as fault:
                if self._config.damaged == "raise":
                    raise
                faults.append(fault)
            else:
                return key, picture, planes, [f"position {position}: {fault}; {key} stands in" for fault in faults]
        raise CorruptDataError(
            f"{_MAX_REPLACEMENTS} samples in a row are damaged, from position {position} on: {faults[0]}"
        )

    def _decoded(self, shard: int, sample: int, into: Picture) -> tuple[str, Picture, dict[str, Picture]]:
        key, picture, stored = self.reader.pictures(shard, sample, tuple(PLANES[p] for p in self._config.planes))
        planes = {}
        for name in self._config.planes:
            if PLANES[name] not in stored:
                raise UsageError(f"{key} has no plane {name!r}: build its dataset with --planes {PLANES[name]}")
            planes[name] = decode_plane(stored[PLANES[name]], name, key)
        return key, decode(picture, key, into if self._from_px == self._config.size_px else None), planes

    def _mask(self, family: str, position: int) -> MaskSpec:
        """The mask SxS of a family at a global position."""
        return make_mask_spec(family, self._config.mask_canvas_px, self._config.size_px, self._seed, "mask", position)


def _order(datasets: tuple[Dataset, ...], config: StreamConfig, seed: int, weights: tuple[int, ...]) -> Order | Mixture:
    counts = [tuple(dataset.split("train").numbers("num_samples").tolist()) for dataset in datasets]
    if not sum(map(sum, counts)):
        raise UsageError(
            "no photo to train on in the split train of the datasets that are given: name at least one with some"
        )
    if not weights:
        return Order(tuple(n for own in counts for n in own), seed, config.num_lanes, config.block_size)
    if len(weights) != len(datasets) or min(weights) < 1:
        raise UsageError(f"weights are {weights} for {len(datasets)} datasets: give each a whole number of at least 1")
    if sum(weights) > _MAX_WEIGHTS:
        raise UsageError(
            f"weights are {weights}, {sum(weights)} in all: take whole numbers of at most {_MAX_WEIGHTS} in all"
        )
    seeds = [derive_seed(seed, "dataset", number) for number in range(len(datasets))]
    orders = (Order(c, s, config.num_lanes, config.block_size) for c, s in zip(counts, seeds, strict=True))
    return Mixture(tuple(orders), tuple(weights), seed)


def _channels_first(pictures: torch.Tensor) -> torch.Tensor:
    """NHWC -> NCHW, the same memory."""
    return pictures.permute(0, 3, 1, 2)
