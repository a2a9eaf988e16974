"""Check for truncated picture files: decoders fill missing pixels with gray and raise no error.

In: the bytes and their header. Out: None, or the missing part. It finds truncated files, tails that became zeros when a
machine lost power, and sizes that so few bytes cannot hold; it cannot find a flipped bit.
"""

import zlib
from collections.abc import Callable, Iterator

from isal import isal_zlib

from pipelines.data.image.header import Header
from pipelines.jpeg_markers import find_missing_scans

_END_OF_JPEG = b"\xff\xd9"
_MAX_PIXELS_PER_BYTE = 512
"""Huffman coding spends at least a bit on each block of 8x8 pixels."""
_FULL_SCAN = b"\x00\x3f\x00"
"""Header of a scan with all coefficients, the only scan of a sequential JPEG."""
_PACKED = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_MAX_UNPACKED_BYTES = 1 << 20
_MIN_ZEROS = 16
"""No encoder ends a WebP with so many zeros; a tail lost to them has more."""


def find_missing_part(raw: bytes, header: Header) -> str | None:
    """Missing part of the file, None if none is known."""
    check = _CHECKS.get(header.format)
    return check(raw, header) if check else None


def _check_jpeg(raw: bytes, header: Header) -> str | None:
    """Missing part of a JPEG; its end marker must come after the coded pixels begin (a thumbnail's lies before)."""
    if header.width_px * header.height_px > _MAX_PIXELS_PER_BYTE * len(raw):
        return f"{len(raw)} bytes cannot hold {header.width_px}x{header.height_px} pixels"
    if not raw.endswith(_END_OF_JPEG, header.pixels_at) and raw.find(_END_OF_JPEG, header.pixels_at) < 0:
        return "no end marker"
    parameters_at = header.pixels_at + 5 + 2 * header.channels
    if raw.startswith(_FULL_SCAN, parameters_at) and raw[header.pixels_at + 4] == header.channels:
        return None
    return find_missing_scans(raw)


def _check_png(raw: bytes, header: Header) -> str | None:
    """Missing or damaged chunk of a PNG, up to IEND, or text so long that Pillow would refuse the file."""
    unpacked = 0
    for kind, body, checksum in _png_chunks(raw):
        if isal_zlib.crc32(body) != checksum:
            return f"chunk {kind!r} is damaged"
        if kind in _PACKED:
            unpacked += _count_unpacked_bytes(kind, bytes(body[4:]))
            if unpacked > _MAX_UNPACKED_BYTES:
                return f"chunk {kind!r} unpacks to more than {_MAX_UNPACKED_BYTES} bytes"
        if kind == b"IEND":
            return None
    return "no IEND chunk"


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield kind, checked bytes (kind and data) and checksum of each complete chunk."""
    position, view = 8, memoryview(raw)
    while position + 12 <= len(raw):
        end = position + 8 + int.from_bytes(raw[position : position + 4], "big")
        yield raw[position + 4 : position + 8], view[position + 4 : end], int.from_bytes(raw[end : end + 4], "big")
        position = end + 4


def _count_unpacked_bytes(kind: bytes, data: bytes) -> int:
    """Unpacked size of a chunk, counted up to one byte over the limit; 0 where it is not packed."""
    _, _, rest = data.partition(b"\0")
    packed = rest[1:]
    if kind == b"iTXt":
        packed = rest[2:].split(b"\0", 2)[-1] if rest.startswith(b"\1") else b""
    try:
        return len(zlib.decompressobj().decompress(packed, _MAX_UNPACKED_BYTES + 1))
    except zlib.error:
        return 0


def _check_webp(raw: bytes, header: Header) -> str | None:
    """Missing part of a WebP, by its length and zeros at its end; the format has no checksum."""
    if len(raw) < 8 + int.from_bytes(raw[4:8], "little"):
        return "shorter than its header says"
    return "its tail is zeros" if raw.endswith(bytes(_MIN_ZEROS)) else None


_CHECKS: dict[str, Callable[[bytes, Header], str | None]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "WEBP": _check_webp,
}
