"""Shards in pieces: the same members as from the whole, however small the pieces, and an end that holds the index."""

import io
from pathlib import Path

import pytest

from pipelines.data.dataset import blocks
from pipelines.data.dataset.blocks import read_blocks, read_end
from pipelines.data.shard_tar import ShardWriter, read_about, read_index

LONG = "n" * 150


@pytest.fixture
def shard(tmp_path: Path) -> tuple[str, bytes]:
    """A shard of members of many sizes, some with long names; where it lies, and its bytes."""
    sink = io.BytesIO()
    writer = ShardWriter(sink)
    for number, size in enumerate((0, 1, 511, 512, 513, 5000, 70_000, 3, 20_000)):
        writer.add(f"{LONG if number % 3 == 0 else 'a'}/{number}", "jpg", bytes([number + 1]) * size)
    writer.close({"layer": 3})
    (tmp_path / "shard.tar").write_bytes(sink.getvalue())
    return str(tmp_path / "shard.tar"), sink.getvalue()


@pytest.mark.parametrize("piece_bytes", [1, 2_000, 30_000, 1 << 20])
def test_the_members_are_those_of_the_whole(
    shard: tuple[str, bytes], piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, data = shard
    monkeypatch.setattr(blocks, "PIECE_BYTES", piece_bytes)
    members, at = read_index(data), 0
    for block, member in zip(read_blocks(uri, len(data), members[::-1]), members, strict=True):
        assert block.member == member
        assert block.data == data[member.offset : member.offset + member.size]
        whole = block.header + block.data + block.padding
        assert whole == data[at : at + len(whole)]
        at += len(whole)


@pytest.mark.parametrize("size", [0, 700, 5_000, 60_000])
def test_of_a_cut_shard_there_is_what_is_left(shard: tuple[str, bytes], tmp_path: Path, size: int) -> None:
    _, data = shard
    (tmp_path / "cut.tar").write_bytes(data[:size])
    blocks = list(read_blocks(str(tmp_path / "cut.tar"), size, read_index(data)))
    assert b"".join(block.header + block.data + block.padding for block in blocks) == data[:size]


def test_an_index_longer_than_the_first_look_is_found(tmp_path: Path) -> None:
    with (tmp_path / "shard.tar").open("wb") as stream:
        writer = ShardWriter(stream)
        members = [writer.add(f"class/{number:06d}", "json", b"{}") for number in range(3000)]
        writer.close({"layer": 3})
    size = (tmp_path / "shard.tar").stat().st_size
    end = read_end(str(tmp_path / "shard.tar"), size)
    assert len(end) < size
    assert (read_index(end), read_about(end)) == (members, {"layer": 3})
