"""What albumentations does to a photo and its planes, as a function of the photo's position.

In: pictures by name, uint8 HxWxC. Out: the same transformed alike, the image SxSx3. Apart from the batches because a
library that draws at will is held to one stream of chance here, and what it makes is not trusted.
"""

from typing import Any, Final

import albumentations as A
import numpy as np

from pipelines.decoding import Picture
from pipelines.keyed_rng import PythonRng, make_philox_state, derive_seed
from pipelines.records import UsageError
from pipelines.stream.config import LARGE, StreamConfig

_TRIALS: Final = 8


class Augmentation:
    """The transforms of a config, tried once; raises UsageError where they do not bring photos to `size_px`."""

    def __init__(self, config: StreamConfig, seed: int) -> None:
        self._size, self._from = config.size_px, config.resize_px or config.size_px
        self._key = derive_seed(seed, "augment")
        self._transform = _compose(config)
        self._philox: Any = np.random.Philox()
        self._random = PythonRng(self._philox)
        self._transform.set_random_state(np.random.Generator(self._philox), self._random)
        grey = np.full((self._from, self._from, 3), 128, np.uint8)
        for position in range(_TRIALS):
            self.apply({"image": grey}, position)

    def apply(self, pictures: dict[str, Picture], position: int) -> dict[str, Picture]:
        """The pictures, transformed; raises UsageError where the image is then no uint8 SxSx3.

        One stream of chance serves all transforms; by albumentations' own seeding each has the same, and all flip or
        none. The generators stay and are set: to make them takes longer than a flip.
        """
        self._philox.state = make_philox_state(self._key, stream=position)
        self._random.seed()
        try:
            done: dict[str, Picture] = self._transform(**pictures)
        except MemoryError:
            raise
        except Exception as fault:
            told = f"augment fails at position {position}: {type(fault).__name__}: {fault}"
            raise UsageError(f"{told}; take other transforms or arguments") from fault
        self._check(done["image"])
        return done

    def _check(self, image: Picture) -> None:
        if image.dtype != np.uint8:
            raise UsageError(f"augment makes {image.dtype} of photos, not uint8: leave out what normalises")
        if image.shape != (self._size, self._size, 3):
            height, width = image.shape[:2]
            raise UsageError(
                f"augment brings photos of {self._from} px to {width}x{height}, size_px is {self._size}: "
                "name the size to crop from as resize_px, and size_px as the size of the crop"
            )


def _compose(config: StreamConfig) -> A.Compose:
    others = dict.fromkeys(config.planes, "mask") | ({LARGE: "image"} if config.large_px else {})
    transforms = [transform.build() for transform in config.augment]
    return A.Compose(transforms, additional_targets=others, is_check_shapes=False)
