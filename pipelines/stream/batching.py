"""The stream: what the optimiser sees, as a function of (datasets, config, seed, images seen).

In: committed datasets. Out: `Batch`es of this rank, for ever; the caller stops. Positions decide everything: the
sample, its crop, its flips and its masks, so any number of ranks draws the same global sequence.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import albumentations as A
import numpy as np
import torch

from infra.world import World
from pipelines.chance import Chance, seed_of
from pipelines.manifest import Dataset
from pipelines.masks import MASKS
from pipelines.masks.recipe import MaskRecipe, draw_masks, recipe_for
from pipelines.records import Batch, Refused
from pipelines.stream.geometry import RESIZES, Picture, decode
from pipelines.stream.order import Order
from pipelines.stream.reading import ShardReader


@dataclass(frozen=True)
class StreamConfig:
    """How photos become what the network sees."""

    size_px: int = 256
    """Height and width of images and masks."""
    resize: str = "squash"
    """How photos come to that size, a name of RESIZES."""
    augment: tuple[str, ...] = ("HorizontalFlip",)
    """Transforms of albumentations at their defaults, applied in this order, seeded per sample."""
    masks: tuple[str, ...] = ("rectangle", "automaton", "brush")
    """Mask families; each photo gets one mask of each."""
    mask_canvas_px: int = 256
    """The size at which masks are drawn before they are reduced to `size_px`."""
    num_lanes: int = 24
    block_size: int = 1024

    def __post_init__(self) -> None:
        for name, known, given in (("resize", RESIZES, (self.resize,)), ("mask family", MASKS, self.masks)):
            for value in given:
                if value not in known:
                    raise Refused(f"unknown {name} {value!r}: known are {', '.join(known)}")
        for value in self.augment:
            kind = getattr(A, value, None)
            if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
                raise Refused(f"unknown transform {value!r}: take a name of albumentations")


class Stream:
    """The training samples of some datasets, in order."""

    def __init__(self, datasets: tuple[Dataset, ...], config: StreamConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._reader = ShardReader(datasets, "train")
        self._order = Order(self._reader.counts, seed, config.num_lanes, config.block_size)
        self._augment = A.Compose([getattr(A, name)() for name in config.augment])

    @property
    def num_samples(self) -> int:
        """Photos in an epoch."""
        return self._order.num_samples

    def batches(self, images_seen: int, batch_size: int, world: World) -> Iterator[Batch]:
        """This rank's share of every global batch of `batch_size` photos from the counter on, without end."""
        while True:
            own = range(images_seen, images_seen + batch_size)
            yield self._batch([p for p in own if p % world.size == world.rank])
            images_seen += batch_size

    def _batch(self, positions: list[int]) -> Batch:
        keys, images = zip(*map(self._sample, positions), strict=True)
        config = self._config
        recipes = [self._mask(family, position) for position in positions for family in config.masks]
        masks = np.stack(draw_masks(recipes)).reshape(len(positions), len(config.masks), config.size_px, config.size_px)
        image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return Batch(keys, tuple(positions), image, torch.from_numpy(masks))

    def _sample(self, position: int) -> tuple[str, Picture]:
        """Key and image SxSx3 of a global position."""
        stored = self._reader.read(*self._order.locate(position))
        config, seed = self._config, self._seed
        whole = decode(stored.picture, stored.key)
        image = RESIZES[config.resize](whole, config.size_px, Chance(seed, "crop", position))
        self._augment.set_random_seed(seed_of(seed, "augment", position))
        return stored.key, self._augment(image=image)["image"]

    def _mask(self, family: str, position: int) -> MaskRecipe:
        """The mask SxS of a family at a global position."""
        return recipe_for(family, self._config.mask_canvas_px, self._config.size_px, self._seed, "mask", position)
