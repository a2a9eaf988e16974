"""Tar of a shard: plain POSIX headers, written with arithmetic instead of objects, and an index as last member.

In: names and bytes of members. Out: a tar stream, the offset of each member, and the digest of the whole. The bytes are
those of `webdataset.TarWriter` for the same members with time 0 and owner lacuna, in a fifteenth of its time.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from isal import isal_zlib

from pipelines.records import Member, canonical_json, sha256_hex

INDEX_MEMBER: Final = "__index__"
_BLOCK: Final = tarfile.BLOCKSIZE
_SIZE: Final = slice(124, 135)
"""Position of a member's size in its header."""
_MAX_PLAIN_BYTES: Final = 8**11 - 1
"""The largest size that eleven octal digits hold."""


class ShardWriter:
    """Writer of a webdataset tar, with the members and the digest so far."""

    def __init__(self, stream: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._stream = stream
        self._members: list[Member] = []

    def add(self, key: str, suffix: str, data: bytes, crc32: int | None = None) -> Member:
        """Append `<key>.<suffix>`, with its CRC32 if it is known."""
        name = f"{key}.{suffix}"
        offset = self._append(name, data)
        member = Member(name, offset, len(data), isal_zlib.crc32(data) if crc32 is None else crc32)
        self._members.append(member)
        return member

    def add_sample(
        self, key: str, parts: dict[str, bytes], known: dict[str, tuple[str, int]]
    ) -> tuple[list[Member], str]:
        """Append the parts of a sample in order of their suffixes; returns the members and the sample's digest.

        `known`: SHA-256 and CRC32 of parts that were digested before.
        """
        members, digests = [], []
        for suffix, data in sorted(parts.items()):
            sha256, crc32 = known.get(suffix, (None, None))
            members.append(self.add(key, suffix, data, crc32))
            digests.append((members[-1].name, sha256 or sha256_hex(data)))
        return members, hash_sample(digests)

    def close(self, about: dict[str, Any]) -> None:
        """Append the index, with the facts of the shard and all members, and end the tar with a whole record."""
        index = canonical_json({**about, "members": [[m.name, m.offset, m.size, m.crc32] for m in self._members]})
        self._append(INDEX_MEMBER, index)
        self._write(bytes(2 * _BLOCK + -(self.size_bytes + 2 * _BLOCK) % tarfile.RECORDSIZE))

    def _append(self, name: str, data: bytes) -> int:
        """Write header, data and padding; returns the offset of the data."""
        header = make_member_header(name, len(data))
        offset = self.size_bytes + len(header)
        self._write(b"".join((header, data, bytes(count_padding(len(data))))))
        return offset

    def _write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size_bytes += len(data)
        self._stream.write(data)


def hash_sample(digests: Iterable[tuple[str, str]]) -> str:
    """Digest of a sample from (name, SHA-256) of its members: SHA-256 over the lines "digest  name" by name.

    The lines are those of `sha256sum`: `sha256sum KEY.* | sha256sum` over the unpacked members gives the same digest.
    """
    return sha256_hex("".join(f"{digest}  {name}\n" for name, digest in sorted(digests)).encode())


def read_index(end_of_shard: bytes) -> list[Member]:
    """Members in a shard's index; raises ValueError where the last bytes of the shard hold no index."""
    return [Member(*row) for row in _parse_index(end_of_shard)["members"]]


def read_about(end_of_shard: bytes) -> dict[str, Any]:
    """Facts in a shard's index: layer, split, number, num_shards, recipe and seed; raises as `read_index`."""
    return {name: value for name, value in _parse_index(end_of_shard).items() if name != "members"}


def find_index(end_of_shard: bytes) -> int | None:
    """Position of the index's header in these bytes, None where it is not among them."""
    at = end_of_shard.rfind(INDEX_MEMBER.encode() + b"\0")  # JSON behind it holds no zero byte
    return at if at >= 0 else None


def _parse_index(end_of_shard: bytes) -> dict[str, Any]:
    at = find_index(end_of_shard)
    if at is None:
        raise ValueError(f"no {INDEX_MEMBER} at its end: the shard is cut or foreign")
    size = int(end_of_shard[at + _SIZE.start : at + _SIZE.stop], 8)
    data = end_of_shard[at + _BLOCK : at + _BLOCK + size]
    if end_of_shard[at : at + _BLOCK] != make_member_header(INDEX_MEMBER, size) or len(data) != size:
        raise ValueError(f"its {INDEX_MEMBER} is damaged: the shard is cut or foreign")
    return dict(json.loads(data))


def locate_member(member: Member) -> tuple[int, int]:
    """Byte range [start, end) of header, data and padding of a member."""
    start = member.offset - len(make_member_header(member.name, member.size))
    return start, member.offset + member.size + count_padding(member.size)


def count_padding(size: int) -> int:
    """Number of zeros that fill data of this size up to a whole block."""
    return -size % _BLOCK


def make_member_header(name: str, size: int) -> bytes:
    """Header of a member: name, size and checksum in a template; tarfile's own where they do not fit."""
    raw = name.encode()
    if len(raw) > tarfile.LENGTH_NAME or not name.isascii() or size > _MAX_PLAIN_BYTES:
        return _make_tar_info(name, size).tobuf(tarfile.PAX_FORMAT)
    digits = b"%011o" % size
    checksum = _TEMPLATE_SUM + sum(raw) + sum(digits)
    return b"%b%b%b%b%06o%b" % (raw.ljust(100, b"\0"), _BEFORE_SIZE, digits, _BEFORE_SUM, checksum, _AFTER_SUM)


def _make_tar_info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, 0o644, "lacuna", "lacuna"
    return info


_TEMPLATE: Final = _make_tar_info("", 0).tobuf(tarfile.USTAR_FORMAT)
_BEFORE_SIZE, _BEFORE_SUM, _AFTER_SUM = _TEMPLATE[100 : _SIZE.start], _TEMPLATE[_SIZE.stop : 148], _TEMPLATE[154:]
_TEMPLATE_SUM: Final = sum(_BEFORE_SIZE) + sum(_BEFORE_SUM) + 8 * ord(" ") + sum(_TEMPLATE[156:])
"""Sum of all bytes except name and size, the checksum itself counted as eight spaces."""
