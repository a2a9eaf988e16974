"""Members of a zip out of its central directory, one after another; ZIP64 included.

In: a stream that can be sought. Out: a `ZipMember` for each entry, and where its data lies. Our own because `zipfile`
keeps an object of some 580 bytes per member, 1 GB for the photos of Places2: here one record at a time is in memory.
"""

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

STORED, DEFLATED = 0, 8
_END: Final = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES: Final = 20
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_ENTRY: Final = struct.Struct("<4s2B5H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT: Final = 0xFFFF
_IN_ZIP64: Final = 0xFFFFFFFF
_ENCRYPTED, _UTF8 = 1, 1 << 11
_UNIX: Final = (3, 19)
"""Systems whose attributes are a Unix mode; the second is macOS."""


@dataclass(frozen=True, slots=True)
class ZipMember:
    """An entry of the central directory that is not a folder."""

    name: str
    header: int
    """Position of its local header."""
    stored_bytes: int
    size: int
    deflated: bool
    crc32: int
    limit: int
    """Where the directory begins: no data reaches beyond."""
    refusal: str | None


def zip_members(stream: BinaryIO, size: int) -> Iterator[ZipMember]:
    """Yield the entries of a zip of `size` bytes, in the order of its directory, from a stream of their own.

    Raises ValueError or struct.error where the directory is torn or missing.
    """
    start, length, expected, shift = _find_directory(stream, size)
    stream.seek(start)
    position, number = start, 0
    while position < start + length:
        fields = _ENTRY.unpack(stream.read(_ENTRY.size))
        if fields[0] != b"PK\1\2":
            raise ValueError(f"there is no entry of the directory at byte {position}")
        rest = stream.read(sum(fields[11:14]))
        name, extra = rest[: fields[11]], rest[fields[11] : fields[11] + fields[12]]
        position, number = position + _ENTRY.size + sum(fields[11:14]), number + 1
        if not name.endswith(b"/"):
            yield _parse_member(fields, name, extra, shift, start)
    if number & 0xFFFF != expected & 0xFFFF or position != start + length:
        raise ValueError(f"its directory holds {number} entries and should hold {expected}")


def find_data_start(stream: BinaryIO, member: ZipMember) -> int | None:
    """Position of a member's data, behind its local header; None where header or data lie outside the archive."""
    if member.header > member.limit:  # may be more than a stream can seek
        return None
    stream.seek(member.header)
    raw = stream.read(_LOCAL.size)
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\3\4"):
        return None
    name_bytes, extra_bytes = _LOCAL.unpack(raw)[9:]
    start = member.header + _LOCAL.size + int(name_bytes) + int(extra_bytes)
    return start if start + member.stored_bytes <= member.limit else None


def _find_directory(stream: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Start, size and number of entries of the directory, and the bytes that stand before the zip.

    Raises ValueError where there is no directory or its position is impossible.
    """
    tail_start = max(0, size - _END.size - _LONGEST_COMMENT)
    stream.seek(tail_start)
    tail = stream.read(size - tail_start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END.size:
        raise ValueError("it has no end record")
    _, disk, _, _, number, length, offset, _ = _END.unpack_from(tail, at)
    before = tail_start + at
    if at >= _LOCATOR_BYTES and tail[at - _LOCATOR_BYTES : at].startswith(b"PK\6\7"):
        before -= _LOCATOR_BYTES + _END64.size
        stream.seek(max(0, before))
        signature, _, _, _, disk, _, _, number, length, offset = _END64.unpack(stream.read(_END64.size))
        if signature != b"PK\6\6":
            raise ValueError("its ZIP64 end record is not where it should be")
    start = before - length
    if disk or start < offset:
        raise ValueError("it is a part of a zip only: its directory points before its start or to other disks")
    return start, length, number, start - offset


def _parse_member(fields: tuple[Any, ...], raw_name: bytes, extra: bytes, shift: int, limit: int) -> ZipMember:
    system, flags, method, crc32 = fields[2], fields[4], fields[5], fields[8]
    name = raw_name.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw_name.decode("cp437")
    size, stored, header = _parse_sizes(fields[10], fields[9], fields[17], extra)
    refusal = _find_refusal(flags, method, fields[16] >> 16 if system in _UNIX else 0)
    if method == STORED and stored != size and refusal is None:
        refusal = "its sizes contradict each other"
    return ZipMember(name, header + shift, stored, size, method == DEFLATED, crc32, limit, refusal)


def _find_refusal(flags: int, method: int, mode: int) -> str | None:
    if flags & _ENCRYPTED:
        return "it is encrypted"
    if method not in (STORED, DEFLATED):
        return f"it is packed by method {method}: only stored and deflated members are read"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link" if stat.S_ISLNK(mode) else "it is no regular file"
    return None


def _parse_sizes(size: int, stored: int, header: int, extra: bytes) -> tuple[int, int, int]:
    """The three numbers; those that need more than 32 bits come from the ZIP64 field of `extra`."""
    wide = iter(_parse_wide_numbers(extra) if _IN_ZIP64 in (size, stored, header) else ())
    size, stored, header = (next(wide, n) if n == _IN_ZIP64 else n for n in (size, stored, header))
    return size, stored, header


def _parse_wide_numbers(extra: bytes) -> tuple[int, ...]:
    start = 0
    while start + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, start)
        if kind == 1:
            field = extra[start + 4 : start + 4 + length]
            return struct.unpack_from(f"<{min(3, len(field) // 8)}Q", field)
        start += 4 + length
    return ()
