"""Transforms of albumentations for a photo and its planes, as a function of the photo's position.

In: pictures by name, uint8 HxWxC. Out: the pictures transformed alike, the image SxSx3. The library draws from one
keyed stream of random numbers, and its results are checked.
"""

from typing import Any, Final

import albumentations as A
import numpy as np

from pipelines.decoding import Picture
from pipelines.keyed_rng import PythonRng, derive_seed, make_philox_state
from pipelines.records import UsageError
from pipelines.stream.config import LARGE, StreamConfig

_TRIALS: Final = 8


class Augmentation:
    """Transforms of a config, tried at once; raises UsageError where they do not bring photos to `size_px`."""

    def __init__(self, config: StreamConfig, seed: int) -> None:
        self._size, self._from = config.size_px, config.resize_px or config.size_px
        self._key = derive_seed(seed, "augment")
        others = dict.fromkeys(config.planes, "mask") | ({LARGE: "image"} if config.large_px else {})
        transforms = [transform.build() for transform in config.augment]
        self._transform = A.Compose(transforms, additional_targets=others, is_check_shapes=False)
        self._philox: Any = np.random.Philox()
        self._random = PythonRng(self._philox)
        self._transform.set_random_state(np.random.Generator(self._philox), self._random)
        gray = np.full((self._from, self._from, 3), 128, np.uint8)
        for position in range(_TRIALS):
            self.apply({"image": gray}, position)

    def apply(self, pictures: dict[str, Picture], position: int) -> dict[str, Picture]:
        """Transformed pictures; raises UsageError where the image is then not uint8 SxSx3.

        One random stream serves all transforms: with albumentations' own seeding each has the same, and all flip or
        none. The generators are kept and set again, as making them takes longer than a flip.
        """
        self._philox.state = make_philox_state(self._key, stream=position)
        self._random.seed()
        try:
            transformed: dict[str, Picture] = self._transform(**pictures)
        except MemoryError:
            raise
        except Exception as fault:
            problem = f"augment fails at position {position}: {type(fault).__name__}: {fault}"
            raise UsageError(f"{problem}. Use other transforms or arguments") from fault
        self._refuse_other_shape(transformed["image"])
        return transformed

    def _refuse_other_shape(self, image: Picture) -> None:
        if image.dtype != np.uint8:
            raise UsageError(f"augment makes {image.dtype} of photos, not uint8: remove transforms that normalize")
        if image.shape != (self._size, self._size, 3):
            height, width = image.shape[:2]
            raise UsageError(
                f"augment brings photos of {self._from} px to {width}x{height}, size_px is {self._size}: "
                "set resize_px to the size before the crop, and size_px to the size of the crop"
            )
