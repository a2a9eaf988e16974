"""Members of a zip and where their data lies; ZIP64 included.

In: a stream that can be sought. Out: a `ZipInfo` for each file, and where its data starts. `zipfile` holds the whole
central directory in memory, some 600 bytes a member: 0.6 GB for a million. It does not count the entries against the
end record, as is done here, for a flipped length byte makes one entry swallow the next.
"""

import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

_END_BYTES: Final = 22 + 0xFFFF
"""The end record with its longest comment."""
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_ENCRYPTED: Final = 1
_UNIX: Final = (3, 19)
"""Systems whose attributes are a Unix mode; the second is macOS."""


def zip_members(stream: BinaryIO, size: int) -> Iterator[tuple[ZipInfo, int | None]]:
    """Yield the files of a zip of `size` bytes in order of their data, and where it starts, None if it is not there.

    Raises BadZipFile, NotImplementedError or ValueError where the directory is torn or missing.
    """
    with ZipFile(stream) as archive:
        members, limit = archive.filelist, archive.start_dir
    expected = _read_num_entries(stream, size)
    if len(members) != expected:
        raise ValueError(f"its directory holds {len(members)} entries and should hold {expected}")
    if any(member.header_offset < 0 for member in members):
        raise ValueError("it is a part of a zip only: its directory points before its start")
    for member in sorted(members, key=lambda m: m.header_offset):  # so that the archive is read forwards
        if not member.is_dir():
            yield member, _find_data_start(stream, member, limit)


def _read_num_entries(stream: BinaryIO, size: int) -> int:
    """Number of entries that the end record says, or that of ZIP64, which stands 76 bytes before it."""
    stream.seek(max(0, size - _END_BYTES - 76))
    tail = stream.read()
    end = tail.rfind(b"PK\5\6")
    if tail[end - 76 :].startswith(b"PK\6\6"):
        return int.from_bytes(tail[end - 44 : end - 36], "little")
    return int.from_bytes(tail[end + 10 : end + 12], "little")


def _find_data_start(stream: BinaryIO, member: ZipInfo, limit: int) -> int | None:
    """Position of a member's data, behind its local header; None where header or data reach beyond `limit`."""
    if member.header_offset > limit:  # may be more than a stream can seek
        return None
    stream.seek(member.header_offset)
    raw = stream.read(_LOCAL.size)
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\3\4"):
        return None
    name_bytes, extra_bytes = _LOCAL.unpack(raw)[9:]
    start = member.header_offset + _LOCAL.size + int(name_bytes) + int(extra_bytes)
    return start if start + member.compress_size <= limit else None


def find_refusal(member: ZipInfo) -> str | None:
    """Reason why a member is not read, None if it is."""
    mode = member.external_attr >> 16 if member.create_system in _UNIX else 0
    if member.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return f"it is packed by method {member.compress_type}: only stored and deflated members are read"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link" if stat.S_ISLNK(mode) else "it is no regular file"
    if member.compress_type == ZIP_STORED and member.compress_size != member.file_size:
        return "its sizes contradict each other"
    return None
