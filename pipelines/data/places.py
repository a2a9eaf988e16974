"""The bytes of a file wherever they lie: in a file of its own, or in a stretch of an archive or container.

In: a root and what was found under it. Out: its bytes, or `Damaged` where they are not what the archive says.
"""

import errno
import zlib
from collections.abc import Iterator
from typing import Final

from infra import storage
from pipelines.records import Damaged, Found, Photo, Place, Plane

_KINDS: Final = (storage.NoRegularFile, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_NUMBERS: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


def is_its_own(fault: OSError) -> bool:
    """Whether a fault of reading is the file's own; others are those of a disk or a network, and may pass."""
    return isinstance(fault, _KINDS) or fault.errno in _NUMBERS


def read_photo(root: str, photo: Photo | Plane | Found) -> bytes:
    """The bytes of a photo or of a plane beside it.

    Raises OSError where they cannot be read, and Damaged where size or CRC32 differ; it does not say where the archive
    lies, for what is written down must not depend on that.
    """
    place = photo.place
    if place is None:
        return storage.read_below(root, photo.path)
    end = place.offset + place.stored_bytes
    raw = storage.read_range(place.container, place.offset, end) if place.stored_bytes else b""
    try:
        return b"".join(unpacked(iter([raw]), place, photo.size_bytes))
    except Damaged as fault:
        raise Damaged(f"{photo.path} is damaged in the archive: {fault}") from None


def unpacked(pieces: Iterator[bytes], place: Place, size_bytes: int) -> Iterator[bytes]:
    """The file that the pieces hold at this place; raises Damaged, after the last piece, where it is another.

    No more than `size_bytes` come out, and a byte, whatever a hostile stream would swell to.
    """
    crc32 = size = 0
    for piece in _inflated(pieces, size_bytes + 1) if place.deflated else pieces:
        crc32, size = zlib.crc32(piece, crc32), size + len(piece)
        yield piece
    if size != size_bytes:
        raise Damaged(f"it has {'more' if size > size_bytes else size} and not {size_bytes} bytes")
    if place.crc32 is not None and crc32 != place.crc32:
        raise Damaged(f"its CRC32 is {crc32:08x} and not {place.crc32:08x}")


def _inflated(pieces: Iterator[bytes], at_most: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            data = stream.decompress(piece, max_length=at_most) if at_most else b""
            at_most -= len(data)
            yield data
    except zlib.error as fault:
        raise Damaged(f"it cannot be inflated ({fault})") from None
