"""Noise of samples, independent of ranks, for networks in training and in evaluation.

In: identities of samples. Out: float tensors.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets.procedures.noise import to_fractions, to_normal
from pipelines.keyed_rng import KeyedRng, derive_key, split_key


class SampleNoise:
    """Random numbers by (seed, purpose, sample): the same on any rank of any world.

    A sample is identified in training by its position and the number of its mask, elsewhere by its key and mask spec.
    """

    def __init__(self, seed: int, samples: Sequence[tuple[int | str, ...]], device: torch.device | str = "cpu") -> None:
        self._seed, self._samples, self._device = seed, samples, device

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform float32 numbers in [0, 1), multiples of 2**-24: rounded ones could be 1. N x shape."""
        fractions = to_fractions(self._draw_words(purpose, int(np.prod(shape, dtype=int))))
        return self._to_tensor(np.floor(fractions * 2.0**24) * 2.0**-24, shape)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal float32 numbers, N x shape (Box and Muller, 1958)."""
        return self._to_tensor(to_normal(self._draw_words(purpose, 2 * int(np.prod(shape, dtype=int)))), shape)

    def keys(self, purpose: str) -> NDArray[np.uint64]:
        """Keys uint64 N x 2 of the samples' numbers, as `nets.procedures.noise` takes them."""
        return np.stack([split_key(derive_key(*self._make_path(purpose, sample))) for sample in self._samples])

    def _draw_words(self, purpose: str, count: int) -> NDArray[np.uint64]:
        return np.stack([KeyedRng(*self._make_path(purpose, sample)).words(count) for sample in self._samples])

    def _make_path(self, purpose: str, sample: tuple[int | str, ...]) -> tuple[int | str, ...]:
        return (self._seed, "noise", purpose, *sample)

    def _to_tensor(self, numbers: NDArray[np.floating], shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(numbers).float().reshape(-1, *shape).to(self._device)
