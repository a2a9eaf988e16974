"""From a batch of the stream to what networks take: floats on the device, and noise that belongs to the samples."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets.objective import Inputs
from pipelines.chance import Chance
from pipelines.records import Batch

_SPLIT_WORD: Final = np.uint64(11)


class SampleNoise:
    """Random numbers by (seed, purpose, position, number of the mask): the same on any rank of any world."""

    def __init__(self, seed: int, samples: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> None:
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


def to_inputs(batch: Batch, seed: int, device: torch.device | str = "cpu") -> Inputs:
    """Image uint8 N3HW, masks NKHW and planes NCHW -> the same as float32 of N*K samples, channels last.

    They travel as bytes, a quarter of the floats, and become floats on the device.
    """
    num_masks = batch.mask.shape[1]
    mask = batch.mask.to(device, non_blocking=True).float().flatten(0, 1).unsqueeze(1)
    samples = [(position, k) for position in batch.positions for k in range(num_masks)]
    return Inputs(
        _floats(batch.image, num_masks, device),
        mask.contiguous(memory_format=torch.channels_last),
        SampleNoise(seed, samples, device),
        {name: _floats(plane, num_masks, device) for name, plane in batch.planes.items()},
    )


def _floats(picture: Tensor, num_masks: int, device: torch.device | str) -> Tensor:
    """uint8 NCHW -> float32 (N*K)CHW in [0, 1], channels last."""
    levels = picture.to(device, non_blocking=True).float().div_(255).repeat_interleave(num_masks, dim=0)
    return levels.contiguous(memory_format=torch.channels_last)
