"""Inputs of a network besides photo and mask, made from the pairs of an evaluation.

In: pairs. Out: planes by the names of the network's inputs, and keys of noise. They depend on the pairs' keys and mask
specs alone, not on their place.
"""

import numpy as np
import torch
from torch import Tensor

from pipelines.evaluation.models import NoiseKeys
from pipelines.evaluation.pairs import Pairs
from pipelines.noise import SampleNoise
from pipelines.stream.sketching import draw_sketch


def make_guides(pairs: Pairs, strokes: bool) -> dict[str, Tensor]:
    """Planes of the pairs by name: sketches of the photos' edges where `strokes` asks for them, and their maps."""
    return ({"sketch": sketch_photos(pairs.images)} if strokes else {}) | make_map_guides(pairs)


def make_map_guides(pairs: Pairs) -> dict[str, Tensor]:
    """Segmentation maps of the pairs, float N3HW in [0, 1], by the input's name; empty where there are none."""
    if pairs.maps is None:
        return {}
    return {"segmentation": torch.from_numpy(pairs.maps).permute(0, 3, 1, 2).float() / 255}


def sketch_photos(images: np.ndarray) -> Tensor:
    """Photos uint8 NSS3 -> sketches of their edges, float N1SS in {0, 1}."""
    drawn = np.stack([draw_sketch(image) for image in images])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255


def make_noise_of_fill(pairs: Pairs, number: int) -> NoiseKeys:
    """Keys of the noise of the pairs' fill of this number, N x 2, by key, mask spec and number."""
    return SampleNoise(0, [(*pair, number) for pair in zip(pairs.keys, pairs.specs, strict=True)]).keys("fill")
