"""Is a picture file whole? Decoders are lenient: they fill what is missing with grey and say nothing.

In: the bytes and the format. Out: nothing, or what is missing. Truncated files, and files whose tail became zeros when
a machine lost power, are noticed here; a flipped bit inside the coded pixels of a JPEG or WebP cannot be.
"""

import zlib
from collections.abc import Callable, Iterator

_MIN_ZEROS = 16
"""No encoder ends a WebP with so many zeros; a tail lost to them has more."""


def missing_part(raw: bytes, file_format: str) -> str | None:
    """What the file lacks to be whole, None if nothing is known to be."""
    check = _CHECKS.get(file_format)
    return check(raw) if check else None


def _missing_of_jpeg(raw: bytes) -> str | None:
    """The end marker must come after the start of the coded pixels (that of a thumbnail lies before it)."""
    position = 2
    while raw[position : position + 1] == b"\xff" and position + 4 <= len(raw):
        if raw[position + 1] == 0xDA:
            return None if raw.find(b"\xff\xd9", position) >= 0 else "no end marker"
        fill = raw[position + 1] == 0xFF
        position += 1 if fill else 2 + int.from_bytes(raw[position + 2 : position + 4], "big")
    return "no coded pixels"


def _missing_of_png(raw: bytes) -> str | None:
    """Every chunk with its own checksum, up to IEND."""
    for kind, data, checksum in _png_chunks(raw):
        if zlib.crc32(kind + data) != checksum:
            return f"chunk {kind!r} is damaged"
        if kind == b"IEND":
            return None
    return "no IEND chunk"


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    position = 8
    while position + 12 <= len(raw):
        end = position + 8 + int.from_bytes(raw[position : position + 4], "big")
        yield raw[position + 4 : position + 8], raw[position + 8 : end], int.from_bytes(raw[end : end + 4], "big")
        position = end + 4


def _missing_of_webp(raw: bytes) -> str | None:
    """As long as its header says, and not ending in zeros; the format has no checksum."""
    if len(raw) < 8 + int.from_bytes(raw[4:8], "little"):
        return "shorter than its header says"
    return "its tail is zeros" if raw.endswith(bytes(_MIN_ZEROS)) else None


_CHECKS: dict[str, Callable[[bytes], str | None]] = {
    "JPEG": _missing_of_jpeg,
    "PNG": _missing_of_png,
    "WEBP": _missing_of_webp,
}
