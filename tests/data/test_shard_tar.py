"""The tar of a shard: the same bytes as webdataset's own writer, and readable by plain webdataset and tar readers."""

import hashlib
import io
import tarfile
import zlib
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.shard_tar import INDEX_MEMBER, ShardWriter, make_member_header, read_index
from pipelines.records import MAX_KEY_BYTES, Member, canonical_json

KEYS = st.text("abcXYZ019_-", min_size=1, max_size=12).flatmap(
    lambda folder: st.sampled_from(
        [folder, f"{folder}/x", folder[0] + "/" + "k" * (MAX_KEY_BYTES - 2), f"{folder}=2Ejpg"]
    )
)
SAMPLES = st.dictionaries(KEYS, st.tuples(st.binary(max_size=2000), st.binary(min_size=1, max_size=600)), max_size=6)
Samples = dict[str, tuple[bytes, bytes]]


def write_shard(samples: Samples) -> tuple[bytes, list[Member], ShardWriter]:
    """The bytes of a shard of these samples (json, picture), its members, and the writer."""
    sink = io.BytesIO()
    writer = ShardWriter(sink)
    members = [
        writer.add(key, suffix, data)
        for key, parts in sorted(samples.items())
        for suffix, data in zip(("json", "png"), parts, strict=True)
    ]
    writer.close({})
    return sink.getvalue(), members, writer


@given(SAMPLES)
@settings(max_examples=60)
def test_members_lie_where_the_writer_says(samples: Samples) -> None:
    shard, members, writer = write_shard(samples)
    stored = {
        f"{key}.{suffix}": data
        for key, parts in samples.items()
        for suffix, data in zip(("json", "png"), parts, strict=True)
    }
    assert {m.name for m in members} == set(stored)
    for member in members:
        data = shard[member.offset : member.offset + member.size]
        assert (data, zlib.crc32(data)) == (stored[member.name], member.crc32)
    assert (writer.size_bytes, writer.sha256.hexdigest()) == (len(shard), hashlib.sha256(shard).hexdigest())


@given(SAMPLES)
@settings(max_examples=40)
def test_the_last_member_is_an_index_of_all_others(samples: Samples) -> None:
    shard, members, _ = write_shard(samples)
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        infos = tar.getmembers()
    assert infos[-1].name == INDEX_MEMBER == "__index__"
    assert [(i.name, i.offset_data, i.size) for i in infos[:-1]] == [(m.name, m.offset, m.size) for m in members]
    assert read_index(shard) == members


@given(SAMPLES)
@settings(max_examples=20)
def test_the_same_samples_give_the_same_bytes(samples: Samples) -> None:
    assert write_shard(samples)[0] == write_shard(samples)[0]


def by_webdataset(members: list[tuple[str, str, bytes]], index: bytes) -> bytes:
    """The tar that webdataset's own writer makes of (key, suffix, data), with an index as last member."""
    sink = io.BytesIO()
    writer = wds.TarWriter(sink, encoder=False, mtime=0, user="lacuna", group="lacuna", mode=0o644)
    for key, suffix, data in members:
        writer.write({"__key__": key, suffix: data})
    info = tarfile.TarInfo(INDEX_MEMBER)
    info.size, info.mode, info.uname, info.gname = len(index), 0o644, "lacuna", "lacuna"
    writer.tarstream.addfile(info, io.BytesIO(index))
    writer.close()
    return sink.getvalue()


NAMES = st.text("abz019_-/=é\u4e2d ", min_size=1, max_size=60) | st.integers(85, 260).map("n".__mul__)
SIZES = st.integers(0, 1500) | st.sampled_from([511, 512, 513, 8192, 10240, 9728, 70_000])


@given(st.lists(st.tuples(NAMES, st.sampled_from(["jpg", "json", "mask.png"]), SIZES.map(bytes)), max_size=8))
@settings(max_examples=150)
def test_the_bytes_are_those_of_webdatasets_own_writer(members: list[tuple[str, str, bytes]]) -> None:
    sink = io.BytesIO()
    writer = ShardWriter(sink)
    written = [writer.add(*member) for member in members]
    writer.close({})
    index = canonical_json({"members": [[m.name, m.offset, m.size, m.crc32] for m in written]})
    assert sink.getvalue() == by_webdataset(members, index)


def test_a_member_of_eight_gibibytes_gets_the_header_that_tarfile_gives_it() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.mode, info.uname, info.gname = 0o644, "lacuna", "lacuna"
    for info.size in (2**33 - 1, 2**33, 2**34):
        assert make_member_header("a.jpg", info.size) == info.tobuf(tarfile.PAX_FORMAT)


def test_the_digest_of_a_sample_is_that_of_the_list_of_its_members_digests() -> None:
    writer = ShardWriter(io.BytesIO())
    parts = {"json": b"{}", "jpg": b"picture"}
    known = hashlib.sha256(b"picture").hexdigest(), zlib.crc32(b"picture")
    members, digest = writer.add_sample("a/b", parts, {"jpg": known})
    assert [member.name for member in members] == ["a/b.jpg", "a/b.json"]
    assert [member.crc32 for member in members] == [zlib.crc32(b"picture"), zlib.crc32(b"{}")]
    lines = "".join(f"{hashlib.sha256(parts[s]).hexdigest()}  a/b.{s}\n" for s in ("jpg", "json"))
    assert digest == hashlib.sha256(lines.encode()).hexdigest()
    assert digest != writer.add_sample("a/b", parts | {"json": b"[]"}, {})[1]
    assert digest == writer.add_sample("a/b", parts, {})[1]


def test_time_owner_and_mode_are_fixed() -> None:
    shard, _, _ = write_shard({"a": (b"{}", b"picture")})
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        owners = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
    assert owners == {(0, 0, 0, "lacuna", "lacuna", 0o644)}


def test_plain_webdataset_reads_a_shard_and_does_not_see_the_index(tmp_path: Path) -> None:
    samples = {f"class/{number}": (b"{}", bytes([number]) * 9) for number in range(5)}
    (tmp_path / "shard.tar").write_bytes(write_shard(samples)[0])
    got = {s["__key__"]: s["png"] for s in wds.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)}
    assert got == {key: picture for key, (_, picture) in samples.items()}


@pytest.mark.parametrize("end", [0, 512, 1024, 2048, 5000])
def test_a_cut_shard_has_no_index(end: int) -> None:
    shard, _, _ = write_shard({str(n): (b"{}" * 99, bytes(999)) for n in range(9)})
    with pytest.raises((ValueError, tarfile.TarError)):
        read_index(shard[:end])


def test_a_foreign_tar_has_no_index() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(ValueError, match="no __index__ at its end"):
        read_index(sink.getvalue())
