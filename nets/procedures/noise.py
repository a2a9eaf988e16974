"""Noise for the fills of probabilistic networks: a pure function of a key, the number of a window and a shape.

In: for each photo a key, two words of 64 bits. Out: standard normal tensors, the same on every machine: raw Philox
words, whose stream numpy keeps stable, and arithmetic of our own. The verb and a registered version share it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets.procedures.network import Noise

_SPLIT_WORD: Final = np.uint64(11)


def make_noise_keys(seed: int, fill: int, num_photos: int) -> NDArray[np.uint64]:
    """Keys uint64 N x 2 of the fill of this number, from 0, that a seed gives: one for all photos.

    So a photo's fill does not depend on which photos are filled with it.
    """
    return np.tile(np.array([seed % 2**64, fill], np.uint64), (num_photos, 1))


def make_keyed_noise(keys: NDArray[np.uint64]) -> Callable[[int], Noise]:
    """The noise of each photo of a batch, by its number, from keys uint64 N x 2."""
    return lambda photo: partial(_draw_window, keys[photo])


def _draw_window(key: NDArray[np.uint64], window: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 numbers; each window has a stream of 2**64 blocks of four words."""
    words = np.random.Philox(key=key, counter=[0, window, 0, 0]).random_raw(2 * math.prod(shape))
    return torch.from_numpy(to_normal(np.asarray(words, np.uint64))).float().reshape(shape)


def to_fractions(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Words -> uniform numbers in [0, 1), multiples of 2**-53."""
    return (words >> _SPLIT_WORD).astype(np.float64) * 2.0**-53


def to_normal(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Words ... x 2K -> standard normal numbers ... x K (Box and Muller, 1958)."""
    radius, angle = np.split(to_fractions(words), 2, axis=-1)
    return np.asarray(np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle))
