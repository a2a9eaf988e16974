"""Members of a tar, one after another, from any stream: POSIX ustar and pax, GNU long names, old v7.

In: a stream that is read once, in order. Out: a `TarMember` for each, with the position of its data; between two of
them the caller may read that data. Our own, because after one flipped header byte `tarfile` returns 2 of 5 members
without an error; besides, one member at a time is in memory, and no header makes it read much or go back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

BLOCK_BYTES: Final = 512
_PIECE_BYTES: Final = 1 << 20
_MAX_EXTENSION_BYTES: Final = 1 << 20
_REGULAR: Final = b"0\x007"
_FOLDER: Final = b"5"
_WITHOUT_DATA: Final = {
    b"1": "it is a link",
    b"2": "it is a link",
    b"3": "it is a device",
    b"4": "it is a device",
    b"6": "it is a pipe",
}
_SPARSE: Final = b"S"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"
_EXTENSIONS: Final = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL)


class ForwardReader:
    """A stream that is read in order and knows its position; `size` is given where the stream can be sought."""

    def __init__(self, stream: BinaryIO, size: int | None = None) -> None:
        self.position = 0
        self.size = size
        self._stream = stream

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes; raises EOFError where there are fewer."""
        data = self._stream.read(count)
        self.position += len(data)
        if len(data) < count:
            raise EOFError(f"it ends at byte {self.position}, {count - len(data)} bytes too early")
        return data

    def read_pieces(self, count: int) -> Iterator[bytes]:
        """The next `count` bytes in pieces of a megabyte."""
        for start in range(0, count, _PIECE_BYTES):
            yield self.read_exactly(min(_PIECE_BYTES, count - start))

    def drain(self) -> Iterator[bytes]:
        """All bytes that are left: a compressed stream proves its checksum at its end only."""
        while piece := self._stream.read(_PIECE_BYTES):
            yield piece

    def skip_to(self, position: int) -> None:
        """Skip all bytes before the position; raises EOFError where the stream is shorter."""
        if self.size is None:
            for _ in self.read_pieces(position - self.position):
                pass
        elif position > self.size:
            raise EOFError(f"it has {self.size} bytes and a member reaches to byte {position}")
        else:
            self._stream.seek(position)
            self.position = position


_MAX_END_BYTES: Final = 1 << 20
"""The largest records that tools write, and some."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member that is not a folder, and where its data lies in the tar."""

    name: str
    offset: int
    size: int
    refusal: str | None


def tar_members(stream: ForwardReader) -> Iterator[TarMember]:
    """Yield the members of the tar; raises EOFError or ValueError, with the position, if it is torn or no tar.

    A tar must end with its end mark, a block of zeros: one that just stops may lack members.
    """
    # Extended headers hold for the next member, or for all that follow.
    for_all: dict[str, str] = {}
    own: dict[str, str] = {}
    while any(block := stream.read_exactly(BLOCK_BYTES)):
        if _parse_number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):  # its checksum
            raise ValueError(f"there is no tar header at byte {stream.position - BLOCK_BYTES}")
        kind, size = block[156:157], _parse_number(block[124:136])
        if kind in _EXTENSIONS:
            (for_all if kind == _PAX_FOR_ALL else own).update(_read_extension(stream, kind, size))
            continue
        member, end = _parse_member(stream, block, kind, size, for_all | own)
        own = {}
        if stream.size is not None and end > stream.size:
            raise EOFError(f"it ends inside {member.name!r}")
        if kind != _FOLDER and not member.name.endswith("/"):
            yield member
        stream.skip_to(end)
    _check_end(stream)


def _check_end(stream: ForwardReader) -> None:
    """Raise ValueError unless a record of zeros at most follows the end mark: a tail lost to zeros is longer."""
    num_zeros = 0
    for piece in stream.drain():
        num_zeros += len(piece)
        if piece.count(0) != len(piece):
            raise ValueError("it goes on after its end mark: it is two archives in one, or has a hole of zeros")
        if num_zeros > _MAX_END_BYTES:
            raise ValueError(f"more than {_MAX_END_BYTES} bytes of zeros follow its end mark: its tail is lost")


def _parse_member(
    stream: ForwardReader, block: bytes, kind: bytes, size: int, fields: dict[str, str]
) -> tuple[TarMember, int]:
    """The member of a header block, and the position of the next one."""
    prefix = _decode_text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    name = fields.get("path") or (f"{prefix}/" if prefix else "") + _decode_text(block[:100])
    size = int(fields.get("size", size))
    refusal = _find_refusal(kind, fields)
    if kind == _SPARSE:
        more = block[482]  # the map of an old GNU sparse member may have further blocks before its data
        while more:
            more = stream.read_exactly(BLOCK_BYTES)[504]
    if size < 0:
        raise ValueError(f"{name!r} has a negative size")
    if kind in _WITHOUT_DATA or kind == _FOLDER:
        size = 0
    return TarMember(name, stream.position, size, refusal), stream.position + _pad_size(size)


def _find_refusal(kind: bytes, fields: dict[str, str]) -> str | None:
    if kind == _SPARSE or any(name.startswith("GNU.sparse.") for name in fields):
        return "it is a sparse file"
    if kind in _WITHOUT_DATA:
        return _WITHOUT_DATA[kind]
    return None if kind in _REGULAR or kind == _FOLDER else f"it is no file but of tar type {kind!r}"


def _parse_number(field: bytes) -> int:
    """Number in a header field: octal digits, or binary behind a first byte of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise ValueError(f"{field!r} is no number of a tar header") from None


def _decode_text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pad_size(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _read_extension(stream: ForwardReader, kind: bytes, size: int) -> dict[str, str]:
    """Fields of an extended header for the next member; a pax record is `<length> <name>=<value>` and a line end."""
    if not 0 <= size <= _MAX_EXTENSION_BYTES:
        raise ValueError(f"an extended header before byte {stream.position} claims {size} bytes")
    data = stream.read_exactly(_pad_size(size))[:size]
    if kind == _LONG_LINK:
        return {}
    if kind == _LONG_NAME:
        return {"path": _decode_text(data)}
    fields, start = {}, 0
    while start < len(data):
        digits = data[start : start + 20].partition(b" ")[0]
        length = int(digits)
        name, equals, value = data[start + len(digits) + 1 : start + length - 1].partition(b"=")
        if not equals or length <= len(digits):
            raise ValueError(f"a pax header holds {digits!r} where a record should be")
        fields[_decode_text(name)] = value.decode("utf-8", "surrogateescape")
        start += length
    return fields
