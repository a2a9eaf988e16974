"""Shards read in pieces: members in their order, some megabytes at a time, and the index from the end.

In: URI and size of a shard. Out: members with header and padding, or the end with the index. So a check or rebuild of a
shard never holds it whole, and never requests a single member from a store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from infra import storage
from pipelines.data.shard_tar import find_index, locate_member
from pipelines.records import Member

PIECE_BYTES: Final = 4 << 20
_FIRST_END_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Block:
    """A member with its header and padding in a shard; shorter than recorded where the shard is cut."""

    member: Member
    header: bytes
    data: bytes
    padding: bytes


def read_end(uri: str, size_bytes: int) -> bytes:
    """Bytes of the end of a shard, with its index if it has one."""
    length = min(_FIRST_END_BYTES, size_bytes)
    while True:
        end = storage.read_range(uri, size_bytes - length, size_bytes) if length else b""
        if find_index(end) is not None or length == size_bytes:
            return end
        length = min(8 * length, size_bytes)


def read_blocks(uri: str, size_bytes: int, members: list[Member]) -> Iterator[Block]:
    """Yield the members of a shard of this size, in order of their offsets."""
    for group in _pieces(sorted(members, key=lambda member: member.offset)):
        start, end = locate_member(group[0])[0], min(locate_member(group[-1])[1], size_bytes)
        piece = memoryview(storage.read_range(uri, start, end) if start < end else b"")
        for member in group:
            (first, last), at = locate_member(member), member.offset - start
            header, data = piece[first - start : at], piece[at : at + member.size]
            yield Block(member, bytes(header), bytes(data), bytes(piece[at + member.size : last - start]))


def _pieces(members: list[Member]) -> Iterator[list[Member]]:
    """Yield the members in groups of adjacent ones, each to be read at once."""
    group: list[Member] = []
    for member in members:
        if group and locate_member(member)[1] - locate_member(group[0])[0] > PIECE_BYTES:
            yield group
            group = []
        group.append(member)
    if group:
        yield group
