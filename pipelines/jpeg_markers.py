"""The segments of a JPEG, and a file whose segments are put right while its coded pixels stay.

In: bytes of a JPEG. Out: its segments, or a JPEG of the same pixels. Decoders warn of segments that change no pixel: an
ICC profile whose parts are numbered wrongly, an Adobe transform that no standard knows, scan parameters that a
sequential JPEG has no use for, bytes between segments. What is put right follows ITU-T T.81, JFIF 1.02 and what
libjpeg does in doubt.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_MARKER: Final = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""A marker that is neither stuffing, nor fill, nor one of those that stand in coded pixels (restarts)."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_NEEDED: Final = FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
"""Segments without which the coded pixels cannot be read: frames, tables, number of lines, restart interval."""
_MAX_SEGMENTS: Final = 10_000
_JFIF: Final = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_ADOBE: Final = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0%c"
_FULL_SCAN: Final = b"\0\x3f\0"
"""First coefficient, last coefficient and precision of a scan that has all of a component."""
_NUM_COEFFICIENTS: Final = 64
_UNSEEN: Final = 16
"""Bits that a coefficient of no scan lacks: more than it can have."""
_PADDING: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class Segment(NamedTuple):
    """A segment of a JPEG, by its places in the file."""

    marker: int
    start: int
    stop: int
    end: int
    """Where the next marker may stand: of a scan behind its coded pixels, else the same as `stop`."""


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the end marker, or up to what is none; bytes between them are passed over."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None or data[found.start() + 1] in (_START_OF_IMAGE, _END_OF_IMAGE):
            return
        start, marker = found.start(), data[found.start() + 1]
        stop = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if not start + 4 <= stop <= len(data):
            return
        position = stop
        if marker == _START_OF_SCAN:
            following = _MARKER.search(data, stop)
            position = following.start() if following else len(data)
        yield Segment(marker, start, stop, position)


def repair_segments(data: bytes, fault: str) -> bytes:
    """A JPEG of the same coded pixels without what a decoder's `fault` may be about; the same bytes if nothing is."""
    padding = _PADDING.search(fault)
    return _without_padding(data, int(padding[1])) if padding else _with_right_segments(data)


def _without_padding(data: bytes, num_bytes: int) -> bytes:
    """The file without zeros between its last coded pixels and its end marker; the same if other bytes are too many.

    `num_bytes` were not decoded; the decoder has more of them in its buffer, so all zeros go.
    """
    end = max((segment.end for segment in segments(data)), default=0)
    coded = data[:end].rstrip(b"\0")
    coded += b"\0" * coded.endswith(b"\xff")  # the zero behind a coded 0xFF is part of it
    return coded + data[end:] if end - len(coded) >= num_bytes else data


def _with_right_segments(data: bytes) -> bytes:
    """The file of those segments alone that its pixels need."""
    parts, sequential, end = [b"\xff\xd8", _colors(data)], True, 2
    for marker, start, stop, end in segments(data):
        if marker == _START_OF_SCAN:
            scan = data[start : stop - 3] + _FULL_SCAN if sequential else data[start:stop]
            parts += [scan, data[stop:end]]
        elif marker in _NEEDED:
            parts.append(data[start:stop])
            sequential = sequential and marker not in FRAMES - SEQUENTIAL
    return b"".join([*parts, data[end : end + 2]])  # the end marker, if there is one


def _colors(data: bytes) -> bytes:
    """The segment that says what the three channels are, empty if none does: JFIF before Adobe, as libjpeg ranks them.

    Adobe's transform of three channels is 0 (RGB) or 1 (YCbCr); libjpeg takes any other for 1.
    """
    said = b""
    for marker, start, stop, _ in segments(data):
        body = data[start + 4 : stop]
        if marker == _START_OF_SCAN:
            break
        if marker in FRAMES and body[5:6] == b"\4":
            return b""  # of ink only the coded pixels are read here
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            return _JFIF
        if marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            said = _ADOBE % (1 if body[11] else 0)
    return said


def find_missing_scans(data: bytes) -> str | None:
    """What the scans of a JPEG leave out of the pixels of its frame, None if nothing.

    A file that was cut between two scans, and closed with an end marker, decodes without a warning.
    """
    left, sequential = dict[int, list[int]](), True
    for marker, start, stop, _ in segments(data):
        if marker in FRAMES:
            left = {channel: [_UNSEEN] * _NUM_COEFFICIENTS for channel in data[start + 10 : stop : 3]}
            sequential = marker in SEQUENTIAL
        elif marker == _START_OF_SCAN:
            first, last, precision = _FULL_SCAN if sequential else data[stop - 3 : stop]
            for channel in left.keys() & set(data[start + 5 : stop - 3 : 2]):
                left[channel][first : last + 1] = [precision & 0x0F] * (last + 1 - first)
    unfinished = sorted(channel for channel, bits in left.items() if any(bits))
    return f"no scan finishes its channel {unfinished[0]}" if unfinished else None
