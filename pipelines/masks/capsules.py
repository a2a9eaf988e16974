"""Thick strokes, rasterized by integers: the same pixels on every machine and with every version of a library.

A capsule is a segment thickened by a disc: all pixels whose distance to it is at most half its width. Strokes with
round ends and round joints are unions of capsules. A capsule is convex, so each of its rows is one span of pixels. The
spans of a whole mask are computed together and united as bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

_PIXELS_TOGETHER: Final = 10 << 16  # with more, the arrays are so large that the system clears fresh memory for each


@dataclass(frozen=True)
class Sketch:
    """Shapes of one mask before it is drawn: capsules, and boxes over them."""

    capsules: Integers
    """5xN: start (y, x), end (y, x) and width of each in pixels; the end is not before the start in reading order.

    A segment must be shorter than 8192 px, narrower than 1024 px and less than 32768 px away.
    """
    boxes: tuple[tuple[slice, slice], ...] = ()
    """Rows and columns."""


def draw_sketches(height: int, width: int, sketches: Sequence[Sketch]) -> NDArray[np.uint8]:
    """Masks uint8 NxHxW of N sketches; parts outside the canvas are cut off. Many at once cost a third less each."""
    masks = np.empty((len(sketches), height, width), np.uint8)
    together = max(1, _PIXELS_TOGETHER // (height * width))
    for first in range(0, len(sketches), together):
        part = slice(first, first + together)
        masks[part] = _draw_together(height, width, sketches[part])
    return masks


def _draw_together(height: int, width: int, sketches: Sequence[Sketch]) -> NDArray[np.uint8]:
    capsules = np.concatenate([sketch.capsules for sketch in sketches], axis=1)
    canvases = np.arange(len(sketches)).repeat([sketch.capsules.shape[1] for sketch in sketches])
    masks = _fill_capsules((len(sketches), height, width), canvases, *capsules)
    for mask, sketch in zip(masks, sketches, strict=True):
        for rows, columns in sketch.boxes:
            mask[rows, columns] = 1
    return masks


def _fill_capsules(
    shape: tuple[int, int, int],
    canvases: Integers,
    top: Integers,
    left: Integers,
    lower: Integers,
    right_end: Integers,
    widths: Integers,
) -> NDArray[np.uint8]:
    """Union of the capsules of each canvas, uint8 NxHxW."""
    # Number the rows of all capsules, one capsule after the other.
    down, right, radius = lower - top, right_end - left, widths // 2
    counts = down + 2 * radius + 1
    stop = counts.cumsum()
    begin, index = stop - counts, np.arange(stop[-1] if stop.size else 0)
    row = index - (begin + radius).repeat(counts)
    # Find the first and the last column of each row.
    start = left.repeat(counts) + _find_left_outline(row, down, right, widths, counts)
    mirrored = start[(begin + stop - 1).repeat(counts) - index]  # a capsule turned by 180 degrees is itself
    end = (2 * left + right + 1).repeat(counts) - mirrored
    return _fill_spans(shape, canvases.repeat(counts), row + top.repeat(counts), start, end)


def sort_ends(starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """Segments whose ends are in reading order: swap the ends of those that go up, or left in one row."""
    after = (ends[0] < starts[0]) | ((ends[0] == starts[0]) & (ends[1] < starts[1]))
    return np.where(after, ends, starts), np.where(after, starts, ends)


def _find_left_outline(row: Integers, down: Integers, right: Integers, widths: Integers, counts: Integers) -> Integers:
    """Leftmost pixel in each row of each capsule, from its upper end; `row` holds `counts` rows of each in turn.

    It lies on the disc whose center is the nearest of the segment's points to a place `touch` above the row, where the
    straight side touches its discs. Fractions are in 1/65536 px, the length is in 1/4096 px.
    """
    length = _compute_root((down * down + right * right) << 24)
    touch = ((widths * right) << 27) // np.maximum(length, 1)
    slope = (right << 16) // np.maximum(down, 1)
    y = row << 16
    center: Integers = np.minimum(np.maximum(y - touch.repeat(counts), 0), (down << 16).repeat(counts))
    y -= center
    half_chord = _compute_root(np.maximum(((widths * widths) << 30).repeat(counts) - y * y, 0))
    return -((half_chord - (center * slope.repeat(counts) >> 16)) >> 16)


def _compute_root(squares: Integers) -> Integers:
    """Integer part of the square root of numbers below 2**52.

    IEEE 754 rounds a square root correctly, and for numbers so small never up to the next integer.
    """
    roots: Integers = np.sqrt(squares).astype(np.int64)
    return roots


def _fill_spans(
    shape: tuple[int, int, int], canvases: Integers, rows: Integers, starts: Integers, stops: Integers
) -> NDArray[np.uint8]:
    """Union of the spans of each canvas, uint8 NxHxW: columns [start, stop) of a row, cut at the canvas."""
    count, height, width = shape
    # Sort the spans by their row.
    inside = (rows.astype(np.uint64) < height).nonzero()[0]  # rows above the canvas come out far below it
    lines = (canvases * height + rows)[inside]
    if count * height <= 1 << 16:
        lines = lines.astype(np.uint16)  # sorted by radix
    order = lines.argsort(kind="stable")
    lines, order = lines[order], inside[order]
    # Write each span as bits, then unite the spans of a row.
    before, after = _make_prefix_bits(width)
    bits = before.take(stops[order], axis=0, mode="clip")
    bits &= after.take(starts[order], axis=0, mode="clip")
    fresh = np.ones(len(lines), np.bool_)
    np.not_equal(lines[1:], lines[:-1], out=fresh[1:])
    heads = fresh.nonzero()[0]
    united = np.zeros((count * height, bits.shape[1]), np.uint64)
    united[lines[heads]] = np.bitwise_or.reduceat(bits, heads)
    return np.unpackbits(united.view(np.uint8), axis=1, count=width, bitorder="little").reshape(shape)


@lru_cache(maxsize=4)
def _make_prefix_bits(width: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Words whose row k has the first k bits set, for k from 0 to the width, and their complement."""
    packed = np.zeros((width + 1, 8 * -(-width // 64)), np.uint8)
    bits = np.packbits(np.tri(width + 1, width, -1, dtype=np.uint8), axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    words = packed.view(np.uint64)
    return words, ~words
