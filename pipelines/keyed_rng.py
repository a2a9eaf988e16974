"""Keyed random numbers: a stream that is a pure function of a path such as (seed, "mask", key).

No code of Lacuna draws from a global generator. The numbers come from raw Philox words, whose stream numpy keeps
stable, by integer arithmetic, so a path gives the same masks, crops and orders on every machine and version.
"""

import hashlib
import operator
import random
import threading
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WORDS_AT_A_TIME: Final = 64
_ZEROS: Final = np.zeros(4, np.uint64)


def hash_path(*path: int | str) -> bytes:
    """SHA-256 of the path as JSON; ("a", "b") and ("a/b",) differ."""
    parts = [encode_basestring_ascii(part) if isinstance(part, str) else str(part) for part in path]
    return hashlib.sha256(f"[{','.join(parts)}]".encode()).digest()


def derive_seed(*path: int | str) -> int:
    """A seed in [0, 2**31) for libraries that take a seed instead of a stream."""
    return int.from_bytes(hash_path(*path)[:4], "big") >> 1


def derive_key(*path: int | str) -> int:
    """Philox key of a path, below 2**128."""
    return int.from_bytes(hash_path(*path)[:16], "little")


def split_key(key: int) -> NDArray[np.uint64]:
    """Words of a key below 2**128, two, the lower one first."""
    return np.array([key & 0xFFFFFFFFFFFFFFFF, key >> 64], np.uint64)


def make_philox_state(key: int, block: int = 0, stream: int = 0) -> dict[str, Any]:
    """State of numpy's Philox of a key below 2**128 before a block of four words; each stream has 2**64 blocks."""
    counter = np.array([block, stream, 0, 0], np.uint64)
    rest = {"buffer": _ZEROS, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
    return {"bit_generator": "Philox", "state": {"counter": counter, "key": split_key(key)}, **rest}


class PythonRng(random.Random):
    """Python's generator on the words of numpy's, so that one state sets both; its own state is not used."""

    def __init__(self, words: np.random.Philox) -> None:
        self._words: Any = words
        super().__init__()

    def seed(self, *_: Any) -> None:
        """Drop a number that was drawn but not returned; the rest is numpy's state."""
        self.gauss_next = None

    def random(self) -> float:
        """Uniform number in [0, 1), a multiple of 2**-53."""
        return float((self._words.random_raw() >> 11) * 2.0**-53)

    def getrandbits(self, k: int, /) -> int:
        """Integer of `k` fair bits."""
        num_words = -(-k // 64)
        return int.from_bytes(self._words.random_raw(num_words).tobytes(), "little") >> 64 * num_words - k


class _Philox(threading.local):
    """One generator per thread for all streams, as making one takes longer than drawing a mask's numbers."""

    def __init__(self) -> None:
        self.words: Any = np.random.Philox()


_philox: Final = _Philox()


class KeyedRng:
    """Stream of random numbers of a path."""

    def __init__(self, *path: int | str) -> None:
        self._path = path
        self._key: int | None = None  # computed on first use, as many streams are never drawn from
        self._num_read = 0
        self._ready: list[int] = []

    def word(self) -> int:
        """Next 64 random bits."""
        return (self._ready or self._read_ahead()).pop()

    def take(self, count: int) -> list[int]:
        """Next `count` words, the same as from `count` calls of `word`."""
        while len(self._ready) < count:
            self._read_ahead()
        split = len(self._ready) - count
        words = self._ready[split:][::-1]
        del self._ready[split:]
        return words

    def _read_ahead(self) -> list[int]:
        """Words that are ready, with more added, the next one last."""
        self._ready = self.words(_WORDS_AT_A_TIME).tolist()[::-1] + self._ready
        return self._ready

    def words(self, count: int) -> NDArray[np.uint64]:
        """Fresh words uint64, `count` of them, after any that `word` has read ahead."""
        if self._key is None:
            self._key = derive_key(*self._path)
        block, skipped = divmod(self._num_read, 4)
        self._num_read += count
        _philox.words.state = make_philox_state(self._key, block)
        return np.asarray(_philox.words.random_raw(skipped + count)[skipped:], dtype=np.uint64)

    def integer(self, low: int, high: int) -> int:
        """Uniform integer in [low, high], both ends included."""
        if high < low:
            raise ValueError(f"no integer lies in [{low}, {high}]")
        return low + ((self._ready or self._read_ahead()).pop() * (high - low + 1) >> 64)  # inlined `word`, for speed

    def integers(self, count: int, *sides: int) -> NDArray[np.int64]:
        """Throws of dice, count x len(sides): column k holds uniform integers in [0, sides[k]), below 2**32.

        Raises TypeError for a side that is no whole number, such as a tuple of sides.
        """
        for side in sides:
            operator.index(side)
        upper = self.words(count * len(sides)).reshape(count, len(sides)) >> np.uint64(32)
        return (upper * np.array(sides, np.uint64) >> np.uint64(32)).astype(np.int64)

    def fraction(self) -> float:
        """Uniform number in [0, 1), a multiple of 2**-53."""
        return (self.word() >> 11) * 2.0**-53

    def bits(self, count: int) -> NDArray[np.uint8]:
        """Fair bits, `count` of them, uint8 in {0, 1}."""
        return np.unpackbits(self.words(-(-count // 64)).view(np.uint8), count=count)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Uniform permutation of range(count), int64; ties between words keep their order."""
        return np.argsort(self.words(count), kind="stable")
