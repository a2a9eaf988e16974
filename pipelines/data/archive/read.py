"""The bytes of a file wherever they lie: in a file of its own, or in a stretch of an archive or container.

In: a root and what was found under it. Out: its bytes, or `CorruptDataError` where the file itself is at fault, which
makes a rejection; any other fault stops a build, for what is written must not depend on the weather.
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
    """The bytes of a photo or of a plane beside it.

    Raises CorruptDataError where they cannot be read or are not what their archive says; it does not say where the
    archive lies, for what is written down must not depend on that. Raises JobError where a file is gone that had been
    listed, and ConnectionError for a fault of a disk, a network or the user's keys: such a file is not the one to
    blame.
    """
    try:
        return _read(root, photo)
    except OSError as fault:
        if _is_its_own(fault, root, photo):
            raise CorruptDataError(f"cannot be read: {type(fault).__name__}") from None
        if isinstance(fault, FileNotFoundError):
            place = photo.place.container if photo.place else f"{photo.path} under {root}"
            raise JobError(
                f"{place} was listed and is not there any more: put it back and run the same command again, or delete "
                ".build under --out and build anew"
            ) from None
        keys = "; see to the keys of the store and to the clock" if isinstance(fault, PermissionError) else ""
        raise ConnectionError(f"{photo.path} in {root}: {fault}{keys}; run the same command again") from None


def _is_its_own(fault: OSError, root: str, photo: Photo | Plane | Found) -> bool:
    """Whether nobody but the file is to blame: only a disk tells that, a store refuses any file to bad keys."""
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
        return b"".join(unpacked(iter([raw]), place, photo.size_bytes))
    except CorruptDataError as fault:
        raise CorruptDataError(damage(photo.path, fault)) from None


def damage(path: str, fault: CorruptDataError) -> str:
    """What is written down of a file that is damaged in its archive, wherever that lies."""
    return f"{path} is damaged in the archive: {fault}"


def unpacked(pieces: Iterator[bytes], place: ByteRange, size_bytes: int) -> Iterator[bytes]:
    """The file that the pieces hold at this place; raises CorruptDataError, after the last piece, where it is another.

    No more than `size_bytes` come out, and a byte, whatever a hostile stream would swell to.
    """
    crc32 = size = 0
    for piece in _inflated(pieces, size_bytes + 1) if place.deflated else pieces:
        crc32, size = isal_zlib.crc32(piece, crc32), size + len(piece)
        yield piece
    if size != size_bytes:
        raise CorruptDataError(f"it has {'more' if size > size_bytes else size} and not {size_bytes} bytes")
    if place.crc32 is not None and crc32 != place.crc32:
        raise CorruptDataError(f"its CRC32 is {crc32:08x} and not {place.crc32:08x}")


def _inflated(pieces: Iterator[bytes], at_most: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            data = stream.decompress(piece, max_length=at_most) if at_most else b""
            at_most -= len(data)
            yield data
    except zlib.error as fault:
        raise CorruptDataError(f"it cannot be inflated ({fault})") from None
