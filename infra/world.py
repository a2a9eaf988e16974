"""The processes that train together: rank, size, and the few things they do with each other.

The only file that knows torch.distributed. Networks, objectives and the loop see a `World` and nothing of the launcher.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.distributed as dist

_CPU: Final = torch.device("cpu")


class RankLostError(RuntimeError):
    """Another rank has gone while this one waited for it: what befell that one is the fault, not this."""


@contextmanager
def _with_peers() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as fault:  # gloo's and NCCL's; ValueError where Ray has ended the group
        if isinstance(fault, ValueError) and dist.is_initialized():
            raise
        raise RankLostError(f"another rank was lost: {fault}") from fault


@dataclass(frozen=True)
class World:
    """This process among those that train together; alone it is rank 0 of 1 and every exchange is a no-op."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    """Where this process's networks are."""
    _buffers: dict[Any, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} of {self.size}: ranks are from 0 to size - 1")

    def average(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Replaces each tensor by its mean over ranks, in one flat all-reduce; all ranks must call it alike.

        Returns a bool for each rank: whether a value of its own was no finite number; alone it does not look. Raises
        RankLostError where a rank has gone.
        """
        if self.size == 1 or not tensors:
            return torch.zeros(self.size, dtype=torch.bool)
        count = sum(t.numel() for t in tensors)
        flat = self._buffer(count + self.size, tensors[0])
        values, flags = torch.cat([t.reshape(-1) for t in tensors], out=flat[:count]), flat[count:].zero_()
        flags[self.rank] = ~torch.isfinite(values.sum())
        with _with_peers():
            dist.all_reduce(flat)
        if flat.is_cuda:
            torch.cuda.synchronize(flat.device)  # waits here, where the rank is known to wait for others
        for tensor, sum_ in zip(tensors, torch.split(values, [t.numel() for t in tensors]), strict=True):
            torch.div(sum_.view_as(tensor), self.size, out=tensor)
        return flags > 0

    def _buffer(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Memory for so many values, the same each time: fresh pages cost as much as the copy."""
        key = count, like.dtype, like.device
        if key not in self._buffers:
            self._buffers[key] = torch.empty(count, dtype=like.dtype, device=like.device)
        return self._buffers[key]

    def barrier(self) -> None:
        """Waits until every rank has come here; raises RankLostError where one has gone."""
        if self.size > 1:
            with _with_peers():
                dist.all_reduce(torch.zeros(1))  # `dist.barrier` would take a GPU for it where there is one


def current_world(device: torch.device = _CPU) -> World:
    """The world that the launcher has set up, or a world of one, with its networks on the device."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(device=device)
