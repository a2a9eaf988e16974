"""Memory for batches that one process fills and another reads without a copy, used again and again.

In: the bytes of a batch. Out: slots of memory that is shared with the processes forked later; it has no name, so it
goes with the last of them however they end. Fresh shared memory for each batch takes two fifths of its decoding's time.
"""

import mmap
import weakref
from collections import deque

import numpy as np
import torch


class SharedBuffers:
    """Some slots; who hands out work decides which of them it fills."""

    def __init__(self, count: int, num_bytes: int) -> None:
        self._maps = [mmap.mmap(-1, max(1, num_bytes)) for _ in range(count)]  # pages come when they are first written
        self._free = deque(range(count))

    def take(self) -> int | None:
        """A free slot, None if all are in use."""
        return self._free.pop() if self._free else None

    def memory(self, slot: int) -> torch.Tensor:
        """The bytes of a slot, uint8."""
        return torch.from_numpy(np.frombuffer(self._maps[slot], np.uint8))

    def lend(self, slot: int) -> torch.Tensor:
        """As `memory`; when no tensor lies in it any more, the slot is free again."""
        array = np.frombuffer(self._maps[slot], np.uint8)
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)
