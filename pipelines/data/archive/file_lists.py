"""What a dataset's publisher says there is: lists of names with a small integer each, and selections among them.

In: the lines of a list. Out: what the list says of a file, and which of its names never came. A file of its own
because a list may have millions of lines: it is held as sorted 128-bit digests, 21 bytes a line, never as names.
"""

import heapq
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import hash_path
from pipelines.records import Absent, Found, Photo, UsageError

_Name = TypeVar("_Name", int, str)


class PublishedList:
    """A list of paths under the root, each with an integer that the source gives a meaning."""

    def __init__(self, name: str, entries: Callable[[], Iterator[tuple[str, int]]]) -> None:
        """`entries` starts the list anew; it is read once here, and once more for what is absent.

        Raises UsageError where a path is named twice with different integers.
        """
        self.name = name
        self._entries = entries
        digests, values = bytearray(), array("i")
        for path, value in entries():
            digests += _digest(path)
            values.append(value)
        words = np.frombuffer(digests, ">u8").reshape(-1, 2)
        order = np.lexsort((words[:, 1], words[:, 0]))
        high, low = (np.ascontiguousarray(words[order, column], np.uint64) for column in (0, 1))
        self._high, self._low = high.data, low.data  # whose single numbers are read faster
        self._values = np.frombuffer(values, np.int32)[order]
        self._seen = bytearray(len(order))
        self._refuse_contradictions(high, low)

    def __len__(self) -> int:
        return len(self._values)

    def photos(
        self, files: Iterable[Found], describe: Callable[[Found, int], Photo], strangers: str = "train"
    ) -> Iterator[Photo]:
        """The files as photos, described by what the list says; refused, in the split `strangers`, where it says none.

        A second file of the same name, as archives can hold them, is refused too.
        """
        for found in files:
            at = self._find(found.path)
            if at is None:
                yield found.as_photo(strangers, refusal=f"{self.name} does not name it")
            elif self._seen[at]:
                yield found.as_photo(strangers, refusal="the archive holds another file of this name")
            else:
                self._seen[at] = True
                yield describe(found, int(self._values[at]))

    def absent(self) -> Iterator[Absent]:
        """What the list names and `photos` did not come across, in the order of the list."""
        for path, _ in self._entries():
            at = self._find(path)
            if at is not None and not self._seen[at]:
                self._seen[at] = True
                yield Absent(path)

    def _find(self, path: str) -> int | None:
        high, low = struct.unpack(">QQ", _digest(path))
        at = bisect_left(self._high, high)
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def _refuse_contradictions(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> None:
        same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        if not (same & (self._values[1:] != self._values[:-1])).any():
            return
        for path, value in self._entries():
            at = self._find(path)
            if at is not None and self._values[at] != value:
                raise UsageError(
                    f"{self.name} names {path} twice and says different things of it: fetch the list again"
                )


def drawn(number: int, candidates: Iterable[_Name], *purpose: str) -> frozenset[_Name]:
    """So many of the candidates, those with the smallest digests of (purpose, candidate).

    Whether one is drawn depends on what is published, never on which files are there or in which order.
    """
    return frozenset(heapq.nsmallest(number, candidates, key=lambda candidate: hash_path(*purpose, candidate)))


def numbered(
    files: Iterable[Found],
    count: int,
    index_of: Callable[[str], int | None],
    path_of: Callable[[int], str],
    split_of: Callable[[int], str],
) -> Iterator[Photo | Absent]:
    """The files of a dataset whose names are the numbers below `count`, then those of them that are not there.

    `index_of` reads the number off a path, None where it is none; `path_of` writes it.
    """
    seen = bytearray(count)
    for found in files:
        index = index_of(found.path)
        if index is None or not 0 <= index < count:
            yield found.as_photo("train", refusal=f"its name is not one of the {count} numbers of this dataset")
        elif seen[index]:
            yield found.as_photo("train", refusal="another file has the same number")
        else:
            seen[index] = True
            yield found.as_photo(split_of(index))
    for index in range(count):
        if not seen[index]:
            yield Absent(path_of(index))


def _digest(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).digest()
