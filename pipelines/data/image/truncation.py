"""Is a picture file whole? Decoders are lenient: they fill what is missing with grey and say nothing.

In: the bytes and their header. Out: nothing, or what is missing. Truncated files, files whose tail became zeros when a
machine lost power, and sizes that so few bytes cannot hold, are noticed here; a flipped bit cannot be.
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
"""All coefficients of its channels: what the only scan of a sequential JPEG says of itself."""
_PACKED = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_MAX_UNPACKED_BYTES = 1 << 20
_MIN_ZEROS = 16
"""No encoder ends a WebP with so many zeros; a tail lost to them has more."""


def missing_part(raw: bytes, header: Header) -> str | None:
    """What the file lacks to be whole, None if nothing is known to be."""
    check = _CHECKS.get(header.format)
    return check(raw, header) if check else None


def _missing_of_jpeg(raw: bytes, header: Header) -> str | None:
    """The end marker must come after the start of the coded pixels (that of a thumbnail lies before it)."""
    if header.width_px * header.height_px > _MAX_PIXELS_PER_BYTE * len(raw):
        return f"{len(raw)} bytes cannot hold {header.width_px}x{header.height_px} pixels"
    if not raw.endswith(_END_OF_JPEG, header.pixels_at) and raw.find(_END_OF_JPEG, header.pixels_at) < 0:
        return "no end marker"
    parameters_at = header.pixels_at + 5 + 2 * header.channels
    if raw.startswith(_FULL_SCAN, parameters_at) and raw[header.pixels_at + 4] == header.channels:
        return None
    return find_missing_scans(raw)


def _missing_of_png(raw: bytes, header: Header) -> str | None:
    """Every chunk with its own checksum, up to IEND; and no text so long that Pillow would refuse the file."""
    unpacked = 0
    for kind, body, checksum in _png_chunks(raw):
        if isal_zlib.crc32(body) != checksum:
            return f"chunk {kind!r} is damaged"
        if kind in _PACKED:
            unpacked += _unpacked_bytes(kind, bytes(body[4:]))
            if unpacked > _MAX_UNPACKED_BYTES:
                return f"chunk {kind!r} unpacks to more than {_MAX_UNPACKED_BYTES} bytes"
        if kind == b"IEND":
            return None
    return "no IEND chunk"


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Kind, what the checksum covers (kind and data) and the checksum of each chunk that is there as a whole."""
    position, view = 8, memoryview(raw)
    while position + 12 <= len(raw):
        end = position + 8 + int.from_bytes(raw[position : position + 4], "big")
        yield raw[position + 4 : position + 8], view[position + 4 : end], int.from_bytes(raw[end : end + 4], "big")
        position = end + 4


def _unpacked_bytes(kind: bytes, data: bytes) -> int:
    """How much a chunk unpacks to, counted up to a little more than the limit; 0 where it is not packed."""
    _, _, rest = data.partition(b"\0")
    packed = rest[1:]
    if kind == b"iTXt":
        packed = rest[2:].split(b"\0", 2)[-1] if rest.startswith(b"\1") else b""
    try:
        return len(zlib.decompressobj().decompress(packed, _MAX_UNPACKED_BYTES + 1))
    except zlib.error:
        return 0


def _missing_of_webp(raw: bytes, header: Header) -> str | None:
    """As long as its header says, and not ending in zeros; the format has no checksum."""
    if len(raw) < 8 + int.from_bytes(raw[4:8], "little"):
        return "shorter than its header says"
    return "its tail is zeros" if raw.endswith(bytes(_MIN_ZEROS)) else None


_CHECKS: dict[str, Callable[[bytes, Header], str | None]] = {
    "JPEG": _missing_of_jpeg,
    "PNG": _missing_of_png,
    "WEBP": _missing_of_webp,
}
