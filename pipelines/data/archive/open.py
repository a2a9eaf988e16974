"""Files of an archive and their byte ranges, without unpacking it.

In: the URI of a tar or zip. Out: a `Found` per file. In a plain tar or a zip on a local disk each file is a byte range
of it; any other archive cannot be sought cheaply and is spooled. Names that leave the archive, links, devices and the
like come with a refusal.
"""

import bz2
import gzip
import lzma
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Final, TypeVar

from fsspec.implementations.local import LocalFileSystem

from infra import storage
from pipelines.data.archive.read import unpack_pieces
from pipelines.data.archive.tar_reader import ForwardReader, tar_members
from pipelines.data.archive.zip_reader import ZipMember, find_data_start, zip_members
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
"""A header may claim more; the column of sizes has 64 bits and a sign."""
_MAX_PATH_CHARACTERS: Final = 4096
_READ_AHEAD_BYTES: Final = 8 << 20
_MEMBERS_IN_ORDER: Final = 2000
_PIECE_BYTES: Final = 1 << 20
_TORN: Final = (ValueError, EOFError, OSError, struct.error, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class ArchiveFile:
    """A file in an archive, and its bytes in pieces, to be read before the next file is requested."""

    found: Found
    pieces: Callable[[], Iterator[bytes]]


def is_archive(uri: str) -> bool:
    """Whether the name has the suffix of an archive that can be read."""
    return uri.endswith(SUFFIXES)


def is_seekable(uri: str) -> bool:
    """Whether the files of the archive can be read in place: a plain tar or a zip on a local disk."""
    return storage.to_local_path(uri) is not None and _find_kind(uri) not in _UNPACK


def _find_kind(uri: str) -> str:
    """Kind of an archive, "tar", "zip" or a key of `_UNPACK`: by its first bytes, else by its suffix."""
    first = storage.read_range(uri, 0, 10)
    kinds = (kind for kind, pattern in _FIRST_BYTES.items() if pattern.match(first))
    return next(kinds, next(kind for suffix, kind in _KINDS.items() if uri.endswith(suffix)))


def open_archive(uri: str) -> Iterator[ArchiveFile]:
    """Yield the files of the archive, about in its order; the readable ones have a place if the archive is seekable.

    Raises UsageError, with the last file that was read, where the archive is torn.
    """
    fs, path = storage.locate(uri)
    ahead = {} if isinstance(fs, LocalFileSystem) else {"block_size": _READ_AHEAD_BYTES, "cache_type": "readahead"}
    kind = _find_kind(uri)
    with fs.open(path, "rb", **ahead) as stream:
        if kind != "zip":
            yield from _open_tar(uri, stream, _UNPACK.get(kind), int(fs.size(path)))
            return
        with fs.open(path, "rb", **ahead) as directory:
            yield from _open_zip(uri, stream, directory, int(fs.size(path)))


def _open_tar(uri: str, raw: BinaryIO, unpack: Callable[..., Any] | None, size: int) -> Iterator[ArchiveFile]:
    is_local = storage.to_local_path(uri) is not None
    stream = ForwardReader(unpack(raw) if unpack else raw, size if is_local and not unpack else None)
    reading = _ReadingLog(uri)
    for member in reading.guard(tar_members(stream)):
        reading.note_file(member.name)
        place = ByteRange(uri, member.offset, member.size) if stream.size is not None else None
        found = _make_found(member.name, member.size, place, member.refusal)
        yield ArchiveFile(found, partial(reading.guard, stream.read_pieces(member.size)))
    if unpack:
        for _ in reading.guard(stream.drain()):
            pass


def _open_zip(uri: str, stream: BinaryIO, directory: BinaryIO, size: int) -> Iterator[ArchiveFile]:
    reading, is_local = _ReadingLog(uri), storage.to_local_path(uri) is not None
    members = reading.guard(zip_members(directory, size))
    while some := list(islice(members, _MEMBERS_IN_ORDER)):
        for member in sorted(some, key=lambda m: m.header):  # so that the archive is read forwards
            reading.note_file(member.name)
            yield _make_zip_file(uri, stream, member, is_local)


def _make_zip_file(uri: str, stream: BinaryIO, member: ZipMember, is_local: bool) -> ArchiveFile:
    start, refusal = find_data_start(stream, member), member.refusal
    if start is None:
        refusal = refusal or "its data is not where the directory of the archive says"
    place = ByteRange(uri, start or 0, member.stored_bytes, member.deflated, member.crc32)

    def pieces() -> Iterator[bytes]:
        stream.seek(place.offset)
        left = range(place.stored_bytes, 0, -_PIECE_BYTES)
        return unpack_pieces((stream.read(min(_PIECE_BYTES, n)) for n in left), place, member.size)

    return ArchiveFile(_make_found(member.name, member.size, place if is_local else None, refusal), pieces)


def _make_found(name: str, size: int, place: ByteRange | None, refusal: str | None) -> Found:
    """A member under its normalized path; one whose path or content is refused has no place."""
    parts = name.split("/")
    path = "/".join(part for part in parts if part not in ("", "."))
    if not path or name.startswith("/") or ".." in parts:
        path, refusal = name, "its name leaves the archive"
    if len(path) > _MAX_PATH_CHARACTERS:
        path, refusal = f"{path[:200]}...", f"its name is longer than {_MAX_PATH_CHARACTERS} characters"
    if size > _MAX_FILE_BYTES:
        refusal = refusal or f"it is larger than {_MAX_FILE_BYTES} bytes"
    return Found(path, min(size, _LARGEST_SIZE), None if refusal else place, refusal)


class _ReadingLog:
    """The last file that was read from an archive, for the message where it is torn."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._num_files, self._last = 0, ""

    def note_file(self, name: str) -> None:
        """Count the next file and keep its name."""
        self._num_files, self._last = self._num_files + 1, name

    def guard(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the items; faults of the archive itself, not of disk or network, become UsageError."""
        try:
            yield from items
        except _TORN as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            came = f"{self._num_files} files were read, the last of them {self._last[:200]!r}"
            raise UsageError(f"{self.uri} is torn: {fault}; {came}: fetch the archive again") from None
