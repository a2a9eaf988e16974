"""From a batch of the stream to what networks take: floats on the device, and noise that belongs to the samples."""

import torch
from torch import Tensor

from nets.objective import Inputs
from pipelines.noise import SampleNoise
from pipelines.records import Batch


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """A batch of N photos as `count` batches of N / count, in order."""
    size = len(batch.keys) // count
    return [
        Batch(
            batch.keys[start : start + size],
            batch.positions[start : start + size],
            batch.image[start : start + size],
            batch.mask[start : start + size],
            {name: plane[start : start + size] for name, plane in batch.planes.items()},
        )
        for start in range(0, size * count, size)
    ]


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
