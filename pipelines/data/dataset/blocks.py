"""Shards read in pieces: members in their order, some megabytes at a time, and the index from the end.

In: URI and size of a shard. Out: members with what lies around them, or the end with the index. A file of its own
because who checks a shard or makes its table again must hold no shard whole, and ask a store for no member alone.
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
    """A member as it lies in a shard; where the shard is cut, shorter than it was."""

    member: Member
    header: bytes
    data: bytes
    padding: bytes


def read_end(uri: str, size_bytes: int) -> bytes:
    """The end of a shard with its index, if it has one."""
    length = min(_FIRST_END_BYTES, size_bytes)
    while True:
        end = storage.read_range(uri, size_bytes - length, size_bytes) if length else b""
        if find_index(end) is not None or length == size_bytes:
            return end
        length = min(8 * length, size_bytes)


def read_blocks(uri: str, size_bytes: int, members: list[Member]) -> Iterator[Block]:
    """The members of a shard that has so many bytes, in the order in which they lie there."""
    for group in _pieces(sorted(members, key=lambda member: member.offset)):
        start, end = locate_member(group[0])[0], min(locate_member(group[-1])[1], size_bytes)
        piece = memoryview(storage.read_range(uri, start, end) if start < end else b"")
        for member in group:
            yield _slice_block(piece, start, member)


def _slice_block(piece: memoryview, start: int, member: Member) -> Block:
    (first, end), at = locate_member(member), member.offset - start
    header, data = piece[first - start : at], piece[at : at + member.size]
    return Block(member, bytes(header), bytes(data), bytes(piece[at + member.size : end - start]))


def _pieces(members: list[Member]) -> Iterator[list[Member]]:
    """The members in groups that lie side by side, each group read at once."""
    group: list[Member] = []
    for member in members:
        if group and locate_member(member)[1] - locate_member(group[0])[0] > PIECE_BYTES:
            yield group
            group = []
        group.append(member)
    if group:
        yield group
