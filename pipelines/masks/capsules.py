"""Thick strokes, rasterised by whole numbers: the same pixels on every machine and with every version of a library.

A capsule is a segment thickened by a disc: all pixels whose distance to it is at most half its width. Strokes with
round ends and round joints are unions of capsules. A capsule is convex, so each of its rows is one span of pixels; the
spans of a whole mask are found together and united as bits.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def fill_capsules(height: int, width: int, starts: Integers, ends: Integers, widths: Integers) -> NDArray[np.uint8]:
    """The union of N capsules as a mask HxW; starts and ends are pixels (y, x) as 2xN, widths are in pixels.

    An end must come after its start, or be it, in reading order: see `in_reading_order`. Parts outside the canvas are
    cut off. A segment must be shorter than 8192 px, narrower than 1024 px and less than 32768 px away.
    """
    (top, left), (down, right) = starts, ends - starts
    radius = widths // 2
    counts = down + 2 * radius + 1
    stop = counts.cumsum()
    begin, index = stop - counts, np.arange(stop[-1] if stop.size else 0)
    row = index - (begin + radius).repeat(counts)
    start = left.repeat(counts) + _left_outline(row, down, right, widths, counts)
    mirrored = start[(begin + stop - 1).repeat(counts) - index]  # a capsule turned by 180 degrees is itself
    return _fill_spans(height, width, row + top.repeat(counts), start, (2 * left + right + 1).repeat(counts) - mirrored)


def in_reading_order(starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """The same segments, those that go up, or left in one row, turned round."""
    after = (ends[0] < starts[0]) | ((ends[0] == starts[0]) & (ends[1] < starts[1]))
    return np.where(after, ends, starts), np.where(after, starts, ends)


def _left_outline(row: Integers, down: Integers, right: Integers, widths: Integers, counts: Integers) -> Integers:
    """The leftmost pixel in each row of each capsule, from its upper end; `row` holds `counts` rows of each in turn.

    It lies on the disc whose centre is the nearest of the segment's points to a place `touch` above the row, where the
    straight side touches its discs. Fractions are in 1/65536 px, the length is in 1/4096 px.
    """
    length = _root((down * down + right * right) << 24)
    touch = ((widths * right) << 27) // np.maximum(length, 1)
    slope = (right << 16) // np.maximum(down, 1)
    y = row << 16
    centre: Integers = np.minimum(np.maximum(y - touch.repeat(counts), 0), (down << 16).repeat(counts))
    y -= centre
    half_chord = _root(np.maximum(((widths * widths) << 30).repeat(counts) - y * y, 0))
    return -((half_chord - (centre * slope.repeat(counts) >> 16)) >> 16)


def _root(squares: Integers) -> Integers:
    """The whole part of the square root of numbers below 2**52.

    IEEE 754 rounds a square root correctly, and that of a number so small never up to the next whole number.
    """
    roots: Integers = np.sqrt(squares).astype(np.int64)
    return roots


def _fill_spans(height: int, width: int, rows: Integers, starts: Integers, stops: Integers) -> NDArray[np.uint8]:
    """The union of N spans as a mask HxW: columns [start, stop) of a row; parts outside the canvas are cut off."""
    rows = rows.astype(np.uint16)  # rows above the canvas come out far below it
    order = rows.argsort(kind="stable")
    rows = rows[order]
    inside = rows.searchsorted(height)
    rows, order = rows[:inside], order[:inside]
    before, after = _first_bits(width)
    bits = before.take(stops[order], axis=0, mode="clip")
    bits &= after.take(starts[order], axis=0, mode="clip")
    fresh = np.ones(inside, np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=fresh[1:])
    heads = fresh.nonzero()[0]
    united = np.zeros((height, bits.shape[1]), np.uint64)
    united[rows[heads]] = np.bitwise_or.reduceat(bits, heads)
    return np.unpackbits(united.view(np.uint8), axis=1, count=width, bitorder="little")


@lru_cache(maxsize=4)
def _first_bits(width: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Row k has the first k bits set, for k from 0 to the width, in whole words; and its complement."""
    packed = np.zeros((width + 1, 8 * -(-width // 64)), np.uint8)
    bits = np.packbits(np.tri(width + 1, width, -1, dtype=np.uint8), axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    words = packed.view(np.uint64)
    return words, ~words
