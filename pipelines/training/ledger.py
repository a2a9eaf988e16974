"""Which photos a training has seen, each at its place in the sequence: a digest that is the same for any ranks.

In: keys and positions of a rank's samples. Out: one number over all ranks, which goes into every checkpoint. Two
trainings on the same datasets with equal digests at a clock have been given photos of the same keys in the same order,
whatever died, was resumed or changed its number of workers in between.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import torch

from infra.world import World

_BYTES: Final = 6
_HALF_BITS: Final = 24
"""Halves of it are summed over ranks as float64, exactly for up to 2^29 of them."""


@dataclass
class Ledger:
    """A sum, modulo 2^48, of a digest of each sample that this process has seen."""

    digest: int = 0

    def take(self, keys: Iterable[str], positions: Iterable[int]) -> None:
        """Enters photos by their keys and their global positions."""
        for key, position in zip(keys, positions, strict=True):
            entry = blake2b(f"{position} {key}".encode(), digest_size=_BYTES).digest()
            self.digest += int.from_bytes(entry, "big")
        self.digest %= 1 << 8 * _BYTES

    def over(self, world: World) -> int:
        """The sum of all ranks' digests; all of them must call it alike."""
        halves = torch.tensor([self.digest >> _HALF_BITS, self.digest % (1 << _HALF_BITS)], dtype=torch.float64)
        world.average([halves])
        high, low = (round(float(half) * world.size) for half in halves)
        return ((high << _HALF_BITS) + low) % (1 << 8 * _BYTES)
