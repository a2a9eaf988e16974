"""The processes that train together: rank, world size, and their collective operations.

The only file that uses torch.distributed. Networks, objectives and the loop see a `World` and nothing of the launcher.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.distributed as dist

_CPU: Final = torch.device("cpu")


class RankLostError(RuntimeError):
    """Another rank ended while this one waited for it; the cause is there, not here."""


@contextmanager
def _raise_lost_ranks() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as fault:  # gloo and NCCL; ValueError if Ray has ended the group
        if isinstance(fault, ValueError) and dist.is_initialized():
            raise
        raise RankLostError(f"another rank was lost: {fault}") from fault


@dataclass(frozen=True)
class World:
    """This process among those that train together; alone it is rank 0 of 1 and collectives do nothing."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    """Device of this process's networks."""
    _buffers: dict[Any, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} of {self.size}: ranks are from 0 to size - 1")

    def average(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Replace each tensor by its mean over ranks, in one flat all-reduce; all ranks must call it alike.

        Returns a bool for each rank: whether one of its values was not finite; alone it does not check. Raises
        RankLostError if a rank has ended.
        """
        if self.size == 1 or not tensors:
            return torch.zeros(self.size, dtype=torch.bool)
        # Copy all values into one buffer, with a flag per rank.
        count = sum(t.numel() for t in tensors)
        flat = self._get_buffer(count + self.size, tensors[0])
        values, flags = torch.cat([t.reshape(-1) for t in tensors], out=flat[:count]), flat[count:].zero_()
        flags[self.rank] = ~torch.isfinite(values.sum())
        with _raise_lost_ranks():
            dist.all_reduce(flat)
        if flat.is_cuda:
            torch.cuda.synchronize(flat.device)  # wait here, where the rank is known to wait for others
        # Divide the sums, and copy the means back.
        for tensor, sum_ in zip(tensors, torch.split(values, [t.numel() for t in tensors]), strict=True):
            torch.div(sum_.view_as(tensor), self.size, out=tensor)
        return flags > 0

    def _get_buffer(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Buffer for `count` values, reused by later calls: fresh pages cost as much as the copy."""
        key = count, like.dtype, like.device
        if key not in self._buffers:
            self._buffers[key] = torch.empty(count, dtype=like.dtype, device=like.device)
        return self._buffers[key]

    def barrier(self) -> None:
        """Wait until every rank calls this; raise RankLostError if one has ended."""
        if self.size > 1:
            with _raise_lost_ranks():
                dist.all_reduce(torch.zeros(1))  # `dist.barrier` would use a GPU if there is one


def get_world(device: torch.device = _CPU) -> World:
    """World that the launcher has set up, or a world of one, with its networks on the device."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(device=device)
