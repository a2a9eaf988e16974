"""Chance as an argument: a stream of numbers that is a pure function of a path such as (seed, "mask", key).

Nothing in the house draws from a global generator. The numbers come from raw Philox words, whose stream numpy keeps
stable, by arithmetic of our own, so the same path gives the same masks, crops and orders on every machine and version.
"""

import hashlib
import json
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WORDS_AT_A_TIME: Final = 64


def digest_of(*path: int | str) -> bytes:
    """SHA-256 of the path; ("a", "b") and ("a/b",) differ."""
    return hashlib.sha256(json.dumps(path, separators=(",", ":")).encode()).digest()


def seed_of(*path: int | str) -> int:
    """A seed in [0, 2**31) for libraries that take a seed instead of a stream."""
    return int.from_bytes(digest_of(*path)[:4], "big") >> 1


class Chance:
    """The stream of the given path."""

    def __init__(self, *path: int | str) -> None:
        self._path = path
        self._ready: list[int] = []

    @cached_property
    def _philox(self) -> np.random.Philox:
        """Made when it is first asked: many a sample has a stream for a choice that it does not make."""
        return np.random.Philox(key=int.from_bytes(digest_of(*self._path)[:16], "little"))

    def word(self) -> int:
        """The next 64 random bits."""
        return (self._ready or self._read_ahead()).pop()

    def _read_ahead(self) -> list[int]:
        self._ready = self.words(_WORDS_AT_A_TIME).tolist()[::-1]
        return self._ready

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` fresh words, uint64; they come after any that `word` has read ahead."""
        return np.asarray(self._philox.random_raw(count), dtype=np.uint64)

    def integer(self, low: int, high: int) -> int:
        """A uniform integer in [low, high], both ends included."""
        if high < low:
            raise ValueError(f"no integer lies in [{low}, {high}]")
        return low + ((self._ready or self._read_ahead()).pop() * (high - low + 1) >> 64)  # as `word`, many times

    def integers(self, count: int, *sides: int) -> NDArray[np.int64]:
        """`count` throws of dice, count x len(sides): column k holds uniform integers in [0, sides[k]), below 2**32."""
        upper = self.words(count * len(sides)).reshape(count, len(sides)) >> np.uint64(32)
        return (upper * np.array(sides, np.uint64) >> np.uint64(32)).astype(np.int64)

    def fraction(self) -> float:
        """A uniform number in [0, 1), a multiple of 2**-53."""
        return (self.word() >> 11) * 2.0**-53

    def bits(self, count: int) -> NDArray[np.uint8]:
        """`count` fair bits, uint8 in {0, 1}."""
        return np.unpackbits(self.words(-(-count // 64)).view(np.uint8), count=count)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """A uniform permutation of range(count), int64; ties between words keep their order."""
        return np.argsort(self.words(count), kind="stable")
