"""Segments of a JPEG, and their repair without a change of the coded pixels.

In: bytes of a JPEG. Out: its segments, or a JPEG of the same pixels. Decoders warn of segments that change no pixel: an
ICC profile whose parts are numbered wrongly, an unknown Adobe transform, scan parameters that a sequential JPEG does
not use, bytes between segments. Repairs follow ITU-T T.81, JFIF 1.02 and, in doubt, libjpeg.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_MARKER: Final = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Markers other than stuffing, fill and those within coded pixels (restarts)."""
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _APP0, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_NEEDED: Final = FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
"""Segments needed to read the coded pixels: frames, tables, number of lines, restart interval."""
_MAX_SEGMENTS: Final = 10_000
_JFIF: Final = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_ADOBE: Final = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0%c"
_FULL_SCAN: Final = b"\0\x3f\0"
"""First coefficient, last coefficient and precision of a scan that holds all of a component."""
_NUM_COEFFICIENTS: Final = 64
_UNSEEN: Final = 16
"""Missing bits of a coefficient that no scan has: more than it can have."""
_PADDING: Final = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class Segment(NamedTuple):
    """Segment of a JPEG, by its positions in the file."""

    marker: int
    start: int
    stop: int
    end: int
    """Position of the next marker: after the coded pixels of a scan, else `stop`."""


def segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the end marker, or to the first invalid one; bytes between them are skipped."""
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
    """JPEG of the same coded pixels without the possible causes of a decoder's `fault`; the same bytes without any.

    Zeros between the last coded pixels and the end marker are removed, unless other bytes are there. The decoder holds
    more of them in its buffer than it counts, so all zeros go.
    """
    padding = _PADDING.search(fault)
    if padding is None:
        return _keep_needed_segments(data)
    end = max((segment.end for segment in segments(data)), default=0)
    coded = data[:end].rstrip(b"\0")
    coded += b"\0" * coded.endswith(b"\xff")  # the zero behind a coded 0xFF is part of it
    return coded + data[end:] if end - len(coded) >= int(padding[1]) else data


def _keep_needed_segments(data: bytes) -> bytes:
    """Bytes of a JPEG with only the segments that its pixels need."""
    parts, sequential, end = [b"\xff\xd8", _make_color_segment(data)], True, 2
    for marker, start, stop, end in segments(data):
        if marker == _START_OF_SCAN:
            scan = data[start : stop - 3] + _FULL_SCAN if sequential else data[start:stop]
            parts += [scan, data[stop:end]]
        elif marker in _NEEDED:
            parts.append(data[start:stop])
            sequential = sequential and marker not in FRAMES - SEQUENTIAL
    return b"".join([*parts, data[end : end + 2]])  # the end marker, if there is one


def _make_color_segment(data: bytes) -> bytes:
    """Segment that defines the three channels, empty if none does: JFIF before Adobe, as in libjpeg.

    Adobe's transform of three channels is 0 (RGB) or 1 (YCbCr); libjpeg reads any other as 1.
    """
    adobe = b""
    for marker, start, stop, _ in segments(data):
        body = data[start + 4 : stop]
        if marker == _START_OF_SCAN:
            break
        if marker in FRAMES and body[5:6] == b"\4":
            return b""  # four channels are inks, of which only the coded pixels are read here
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            return _JFIF
        if marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = _ADOBE % (1 if body[11] else 0)
    return adobe


def find_missing_scans(data: bytes) -> str | None:
    """Description of a channel that no scan of a JPEG finishes, or None.

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
