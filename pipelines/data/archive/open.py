"""Archives read where they lie: what they hold, and where in them, without unpacking them.

In: the URI of a tar or zip. Out: a `Found` per file. A plain tar or a zip on a local disk is left as it is, each file
a stretch of it; any other archive cannot be sought cheaply and is spilled. Names that leave the archive, links, devices
and the like are found with a refusal.
"""

import bz2
import gzip
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Final, TypeVar

from fsspec.implementations.local import LocalFileSystem

from infra import storage
from pipelines.data.archive.read import unpacked
from pipelines.data.archive.tar_reader import Forward, TarMember, tar_members
from pipelines.data.archive.zip_reader import ZipMember, data_start, zip_members
from pipelines.records import ByteRange, Found, UsageError

_UNPACK: Final[dict[str, Callable[..., Any]]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_FIRST_BYTES: Final = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zip": re.compile(rb"PK\x03\x04|PK\x05\x06"),
}
_Item = TypeVar("_Item")
_KINDS: Final = {
    ".tar": "tar", ".zip": "zip", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bzip2", ".tar.xz": "xz",
}  # fmt: skip
SUFFIXES: Final = tuple(_KINDS)
_MAX_FILE_BYTES: Final = 1 << 30
_LARGEST_SIZE: Final = (1 << 63) - 1
"""A header may claim more; what is written down of a file has 64 bits and a sign."""
_MAX_PATH_CHARACTERS: Final = 4096
_READ_AHEAD_BYTES: Final = 8 << 20
_MEMBERS_IN_ORDER: Final = 2000
_PIECE_BYTES: Final = 1 << 20
_TORN: Final = (ValueError, EOFError, OSError, struct.error, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Packed:
    """A file in an archive, and its bytes in pieces, which must be taken before the next file is asked for."""

    found: Found
    pieces: Callable[[], Iterator[bytes]]


def is_archive(uri: str) -> bool:
    """Whether the name says that it is an archive that can be read."""
    return uri.endswith(SUFFIXES)


def is_seekable(uri: str) -> bool:
    """Whether the files of the archive can be read where they lie: a plain tar or a zip on a local disk."""
    return storage.to_local_path(uri) is not None and _kind(uri) not in _UNPACK


def _kind(uri: str) -> str:
    """Name of what an archive is, "tar", "zip" or a key of `_UNPACK`: by its first bytes, else by its suffix."""
    first = storage.read_range(uri, 0, 10)
    kinds = (kind for kind, pattern in _FIRST_BYTES.items() if pattern.match(first))
    return next(kinds, next(kind for suffix, kind in _KINDS.items() if uri.endswith(suffix)))


def open_archive(uri: str) -> Iterator[Packed]:
    """The files of the archive, about in its order; each that can be read has a place if the archive is seekable.

    Raises UsageError, saying how far it came, where the archive is torn.
    """
    fs, path = storage.locate(uri)
    ahead = {} if isinstance(fs, LocalFileSystem) else {"block_size": _READ_AHEAD_BYTES, "cache_type": "readahead"}
    kind = _kind(uri)
    with fs.open(path, "rb", **ahead) as stream:
        if kind != "zip":
            yield from _open_tar(uri, stream, _UNPACK.get(kind), int(fs.size(path)))
            return
        with fs.open(path, "rb", **ahead) as directory:
            yield from _open_zip(uri, stream, directory, int(fs.size(path)))


def _open_tar(uri: str, raw: BinaryIO, unpack: Callable[..., Any] | None, size: int) -> Iterator[Packed]:
    is_local = storage.to_local_path(uri) is not None
    stream = Forward(unpack(raw) if unpack else raw, size if is_local and not unpack else None)
    reading = _Reading(uri)
    for member in reading.guarded(tar_members(stream)):
        reading.reached(member.name)
        yield _packed_in_tar(reading, stream, member)
    if unpack:
        for _ in reading.guarded(stream.drain()):
            pass


def _packed_in_tar(reading: "_Reading", stream: Forward, member: TarMember) -> Packed:
    place = ByteRange(reading.uri, member.offset, member.size) if stream.size is not None else None
    found = _found(member.name, member.size, place, member.refusal)
    return Packed(found, lambda: reading.guarded(stream.pieces(member.size)))


def _open_zip(uri: str, stream: BinaryIO, directory: BinaryIO, size: int) -> Iterator[Packed]:
    reading, is_local = _Reading(uri), storage.to_local_path(uri) is not None
    members = reading.guarded(zip_members(directory, size))
    while some := list(islice(members, _MEMBERS_IN_ORDER)):
        for member in sorted(some, key=lambda m: m.header):  # so that the archive is read forwards
            reading.reached(member.name)
            yield _packed_in_zip(uri, stream, member, is_local)


def _packed_in_zip(uri: str, stream: BinaryIO, member: ZipMember, is_local: bool) -> Packed:
    start, refusal = data_start(stream, member), member.refusal
    if start is None:
        refusal = refusal or "its data is not where the directory of the archive says"
    place = ByteRange(uri, start or 0, member.stored_bytes, member.deflated, member.crc32)

    def pieces() -> Iterator[bytes]:
        stream.seek(place.offset)
        left = range(place.stored_bytes, 0, -_PIECE_BYTES)
        return unpacked((stream.read(min(_PIECE_BYTES, n)) for n in left), place, member.size)

    return Packed(_found(member.name, member.size, place if is_local else None, refusal), pieces)


def _found(name: str, size: int, place: ByteRange | None, refusal: str | None) -> Found:
    """A member under the path that its name means; one that means none, or is not to be read, has no place."""
    parts = name.split("/")
    path = "/".join(part for part in parts if part not in ("", "."))
    if not path or name.startswith("/") or ".." in parts:
        path, refusal = name, "its name leaves the archive"
    if len(path) > _MAX_PATH_CHARACTERS:
        path, refusal = f"{path[:200]}...", f"its name is longer than {_MAX_PATH_CHARACTERS} characters"
    if size > _MAX_FILE_BYTES:
        refusal = refusal or f"it is larger than {_MAX_FILE_BYTES} bytes"
    return Found(path, min(size, _LARGEST_SIZE), None if refusal else place, refusal)


class _Reading:
    """How far the reading of an archive came: what its user is told where it is torn."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._num_files, self._last = 0, ""

    def reached(self, name: str) -> None:
        """Takes note of the next file."""
        self._num_files, self._last = self._num_files + 1, name

    def guarded(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """The items; what shows that the archive is torn, not the disk or the network failing, becomes UsageError."""
        try:
            yield from items
        except _TORN as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            came = f"{self._num_files} files were read, the last of them {self._last[:200]!r}"
            raise UsageError(f"{self.uri} is torn: {fault}; {came}: fetch the archive again") from None
