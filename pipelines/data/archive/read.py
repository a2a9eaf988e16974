"""The bytes of a photo, from a file of its own or from a byte range of an archive or container.

In: a root and a file under it. Out: its bytes, or `CorruptDataError` for a fault of the file itself, which rejects it.
Any other fault stops a build: tables must not depend on passing faults of disks and networks.
"""

import errno
import zlib
from collections.abc import Iterator
from typing import Final

from isal import isal_zlib

from infra import storage
from pipelines.records import ByteRange, CorruptDataError, Found, JobError, Photo, Plane

_KINDS: Final = (storage.NotAFileError, PermissionError)
_NUMBERS: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


def read_photo(root: str, photo: Photo | Plane | Found) -> bytes:
    """Bytes of a photo or of a plane beside it.

    Raises CorruptDataError where they cannot be read or differ from their archive's record; its text goes into tables,
    so it does not say where the archive lies. Raises JobError where a listed file is gone, and ConnectionError for a
    fault of a disk, a network or the user's keys, which is none of the file.
    """
    try:
        return _read(root, photo)
    except OSError as fault:
        if _is_file_fault(fault, root, photo):
            raise CorruptDataError(f"cannot be read: {type(fault).__name__}") from None
        if isinstance(fault, FileNotFoundError):
            place = photo.place.container if photo.place else f"{photo.path} under {root}"
            raise JobError(
                f"{place} was listed and is gone: put it back and run the same command again, or delete .build under "
                "--out and build again"
            ) from None
        keys = "check the keys of the store and the clock, then " if isinstance(fault, PermissionError) else ""
        raise ConnectionError(f"{photo.path} in {root}: {fault}; {keys}run the same command again") from None


def _is_file_fault(fault: OSError, root: str, photo: Photo | Plane | Found) -> bool:
    """Whether the fault is the file's own: decided on disks only, since a store refuses any file to bad keys."""
    local = storage.to_local_path(root)
    if local is None or photo.place is not None:
        return False
    dangles = isinstance(fault, FileNotFoundError | NotADirectoryError) and (local / photo.path).is_symlink()
    return dangles or isinstance(fault, _KINDS) or fault.errno in _NUMBERS


def _read(root: str, photo: Photo | Plane | Found) -> bytes:
    place = photo.place
    if place is None:
        return storage.read_below(root, photo.path)
    end = place.offset + place.stored_bytes
    raw = storage.read_range(place.container, place.offset, end) if place.stored_bytes else b""
    try:
        return b"".join(unpack_pieces(iter([raw]), place, photo.size_bytes))
    except CorruptDataError as fault:
        raise CorruptDataError(describe_damage(photo.path, fault)) from None


def describe_damage(path: str, fault: CorruptDataError) -> str:
    """Reason to reject a file that is damaged in its archive; it does not say where the archive lies."""
    return f"{path} is damaged in the archive: {fault}"


def unpack_pieces(pieces: Iterator[bytes], place: ByteRange, size_bytes: int) -> Iterator[bytes]:
    """Yield a file from its stored pieces; raises CorruptDataError, after the last one, where it differs.

    At most `size_bytes` + 1 bytes come out, however much a hostile stream would inflate to.
    """
    crc32 = size = 0
    for piece in _inflate(pieces, size_bytes + 1) if place.deflated else pieces:
        crc32, size = isal_zlib.crc32(piece, crc32), size + len(piece)
        yield piece
    if size != size_bytes:
        raise CorruptDataError(f"it has {'more' if size > size_bytes else size} and not {size_bytes} bytes")
    if place.crc32 is not None and crc32 != place.crc32:
        raise CorruptDataError(f"its CRC32 is {crc32:08x} and not {place.crc32:08x}")


def _inflate(pieces: Iterator[bytes], at_most: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            data = stream.decompress(piece, max_length=at_most) if at_most else b""
            at_most -= len(data)
            yield data
    except zlib.error as fault:
        raise CorruptDataError(f"it cannot be inflated ({fault})") from None
