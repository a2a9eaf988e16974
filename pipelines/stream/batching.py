"""The stream: the optimizer's input, as a function of (datasets, config, seed, images seen).

In: committed datasets. Out: `Batch`es of this rank without end; the caller stops. Positions decide everything: the
sample, its crop, its flips and its masks, so any number of ranks and loader workers draws the same global sequence.
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
from pipelines.masks.spec import draw_masks, make_mask_spec
from pipelines.records import Batch, CorruptDataError, UsageError
from pipelines.stream.augmenting import Augmentation
from pipelines.stream.config import LARGE, PLANES, StreamConfig
from pipelines.stream.geometry import RESIZES, decode, decode_plane, extract_view
from pipelines.stream.loading import load
from pipelines.stream.mixing import Mixture
from pipelines.stream.order import Order
from pipelines.stream.reading import ShardReader
from pipelines.stream.sketching import draw_sketch

_MAX_REPLACEMENTS: Final = 100
_MAX_ROUND: Final = 1000
"""Photos of one round of a mix."""
_RANGES: Final = {"images_seen": (0, 2**62), "batch_size": (1, 2**20), "num_loader_workers": (0, 1024)}


class Stream:
    """Training samples of some datasets, in order."""

    def __init__(
        self, datasets: tuple[Dataset, ...], config: StreamConfig, seed: int, mix: tuple[int, ...] = ()
    ) -> None:
        """`mix`: number of photos of each dataset in every round; if empty, all photos count alike.

        Raises UsageError where there is nothing to read, and for an unfit mix or unfit transforms.
        """
        self._config, self._seed = config, seed
        self._from_px = config.resize_px or config.size_px
        self._augmentation = Augmentation(config, seed)
        self._order = _make_order(datasets, config, seed, mix)
        self.reader = ShardReader(datasets, "train")

    @property
    def num_samples(self) -> int:
        """Photos in an epoch."""
        return self._order.num_samples

    def batches(self, images_seen: int, batch_size: int, world: World, num_loader_workers: int = 0) -> Iterator[Batch]:
        """Yield this rank's share of every global batch of `batch_size` photos from the counter on, without end.

        `num_loader_workers` loader workers make them ahead; with 0, this process makes them on demand. Raises
        CorruptDataError for a damaged photo, unless the config replaces it, OSError where a store does not answer for
        long, and UsageError at once where a number is out of range.
        """
        for (name, (least, most)), value in zip(
            _RANGES.items(), (images_seen, batch_size, num_loader_workers), strict=True
        ):
            if not least <= value <= most:
                raise UsageError(f"{name} is {value}: it must be from {least} to {most}")
        starts = count(images_seen, batch_size)
        steps = ([p for p in range(start, start + batch_size) if p % world.size == world.rank] for start in starts)
        photo_bytes = (3 + len(self._config.masks)) * self._config.size_px**2
        return load(self._make_batch, steps, -(-batch_size // world.size) * photo_bytes, num_loader_workers)

    def _make_batch(self, positions: list[int], memory: torch.Tensor) -> Batch:
        """Batch of the photos at these positions, its images and masks in the memory, uint8."""
        # Lay the images NHWC and the masks NKHW side by side into the memory.
        count, size, num_masks = len(positions), self._config.size_px, len(self._config.masks)
        pixels = count * size**2
        image = memory[: 3 * pixels].view(count, size, size, 3)
        masks = memory[3 * pixels : (3 + num_masks) * pixels].view(count, num_masks, size, size)
        # Read the photos and their planes.
        keys, incidents, planes = [], [], []
        for position, into in zip(positions, image.numpy(), strict=True):
            key, others, replaced = self._read_sample(position, into)
            keys.append(key)
            planes.append(others)
            incidents += replaced
        # Draw all masks together.
        specs = [
            make_mask_spec(family, self._config.mask_canvas_px, self._config.size_px, self._seed, "mask", position)
            for position in positions
            for family in self._config.masks
        ]
        for into, mask in zip(masks.flatten(0, 1).numpy(), draw_masks(specs), strict=True):
            into[:] = mask
        names = planes[0] if planes else ()  # some ranks have no share of a batch smaller than the world
        stacked = {name: _to_channels_first(torch.from_numpy(np.stack([p[name] for p in planes]))) for name in names}
        incidents += self.reader.traffic.drain()
        return Batch(tuple(keys), tuple(positions), _to_channels_first(image), masks, stacked, tuple(incidents))

    def _read_sample(self, position: int, into: Picture) -> tuple[str, dict[str, Picture], list[str]]:
        """Write the image of a global position to `into` SxSx3; returns its key, its planes and what was replaced."""
        # Start fetching what comes next, then read this sample.
        for segment in self._order.ahead(position):
            self.reader.fetch_ahead(segment)
        key, whole, planes, replaced = self._read_or_replace(position, into)
        # Take one view of the photo and its planes.
        rng = KeyedRng(self._seed, "crop", position)
        view = RESIZES[self._config.resize](whole.shape[0], whole.shape[1], self._from_px, rng)
        pictures = {name: extract_view(plane, view, nearest=True) for name, plane in planes.items()}
        if self._config.large_px is not None:
            pictures[LARGE] = extract_view(whole, view._replace(size_px=self._config.large_px))
        pictures["image"] = extract_view(whole, view)
        # Augment them alike and draw the sketch of the result.
        if self._config.augment:
            pictures = self._augmentation.apply(pictures, position)
        image = pictures.pop("image")
        if "sketch" in self._config.sketch_planes:
            pictures["sketch"] = draw_sketch(image, pictures.get("edge"), self._config.sketch_threshold)
        if not np.shares_memory(image, into):
            into[:] = image
        return key, pictures, replaced

    def _read_or_replace(self, position: int, into: Picture) -> tuple[str, Picture, dict[str, Picture], list[str]]:
        """Key, picture and planes of the sample at a position, or of the next sound one of its lane; and the damage.

        The replacement depends on the damaged samples alone, so it is the same for all worlds.
        """
        faults: list[CorruptDataError] = []
        for number in range(_MAX_REPLACEMENTS):
            place = self._order.locate(position + number * self._config.num_lanes)
            try:
                key, picture, planes = self._decode(*place, into)
            except CorruptDataError as fault:
                if self._config.damaged == "raise":
                    raise
                faults.append(fault)
            else:
                return key, picture, planes, [f"position {position}: {fault}; {key} stands in" for fault in faults]
        raise CorruptDataError(
            f"{_MAX_REPLACEMENTS} samples in a row are damaged, from position {position} on: {faults[0]}"
        )

    def _decode(self, shard: int, sample: int, into: Picture) -> tuple[str, Picture, dict[str, Picture]]:
        key, picture, stored = self.reader.pictures(shard, sample, tuple(PLANES[p] for p in self._config.planes))
        planes = {}
        for name in self._config.planes:
            if PLANES[name] not in stored:
                raise UsageError(f"{key} has no plane {name!r}: build its dataset with --planes {PLANES[name]}")
            planes[name] = decode_plane(stored[PLANES[name]], name, key)
        return key, decode(picture, key, into if self._from_px == self._config.size_px else None), planes


def _make_order(
    datasets: tuple[Dataset, ...], config: StreamConfig, seed: int, mix: tuple[int, ...]
) -> Order | Mixture:
    counts = [tuple(dataset.split("train").numbers("num_samples").tolist()) for dataset in datasets]
    if not sum(map(sum, counts)):
        raise UsageError("the given datasets have no photos in the split train: add a dataset that has some")
    if not mix:
        return Order(tuple(n for own in counts for n in own), seed, config.num_lanes, config.block_size)
    given = " ".join(map(str, mix))
    if len(mix) != len(datasets) or min(mix) < 1:
        raise UsageError(
            f"--mix is {given}: give each of the datasets, {len(datasets)} in all, an integer of at least 1"
        )
    if sum(mix) > _MAX_ROUND:
        raise UsageError(f"--mix is {given}, {sum(mix)} in all: use integers of at most {_MAX_ROUND} in all")
    seeds = [derive_seed(seed, "dataset", number) for number in range(len(datasets))]
    orders = (Order(c, s, config.num_lanes, config.block_size) for c, s in zip(counts, seeds, strict=True))
    return Mixture(tuple(orders), tuple(mix), seed)


def _to_channels_first(pictures: torch.Tensor) -> torch.Tensor:
    """NHWC -> NCHW, a view of the same memory."""
    return pictures.permute(0, 3, 1, 2)
