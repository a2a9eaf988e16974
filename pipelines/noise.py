"""Noise that belongs to samples and not to ranks: what networks draw in training and in evaluation.

In: who the samples are. Out: float tensors. Apart from `chance.py`, which knows no tensors.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.chance import Chance

_SPLIT_WORD: Final = np.uint64(11)


class SampleNoise:
    """Random numbers by (seed, purpose, sample): the same on any rank of any world.

    A sample is in training its position and the number of its mask, and elsewhere its key and mask recipe.
    """

    def __init__(self, seed: int, samples: Sequence[tuple[int | str, ...]], device: torch.device | str = "cpu") -> None:
        self._seed, self._samples, self._device = seed, samples, device

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform float32 numbers in [0, 1), multiples of 2**-24: rounded ones could be 1. N x shape."""
        fractions = self._fractions(purpose, int(np.prod(shape, dtype=int)))
        return self._tensor(np.floor(fractions * 2.0**24) * 2.0**-24, shape)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal float32 numbers, N x shape (Box and Muller, 1958)."""
        count = int(np.prod(shape, dtype=int))
        radius, angle = self._fractions(purpose, 2 * count).reshape(-1, 2, count).swapaxes(0, 1)
        return self._tensor(np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle), shape)

    def _fractions(self, purpose: str, count: int) -> NDArray[np.float64]:
        rows = [Chance(self._seed, "noise", purpose, *sample).words(count) for sample in self._samples]
        return (np.stack(rows) >> _SPLIT_WORD).astype(np.float64) * 2.0**-53

    def _tensor(self, numbers: NDArray[np.floating], shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(numbers).float().reshape(-1, *shape).to(self._device)
