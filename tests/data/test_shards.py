"""A shard alone, without Ray: the tar that ShardWriter makes, as plain webdataset and plain tar readers see it."""

import hashlib
import io
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.shards import INDEX_MEMBER, ShardWriter, fixed_masks, read_index
from pipelines.data.workspace import share_of
from pipelines.masks.recipe import parse_recipe
from pipelines.records import MAX_KEY_BYTES, Member
from tests.making import shard_recipe

KEYS = st.text("abcXYZ019_-", min_size=1, max_size=12).flatmap(
    lambda folder: st.sampled_from(
        [folder, f"{folder}/x", folder[0] + "/" + "k" * (MAX_KEY_BYTES - 2), f"{folder}=2Ejpg"]
    )
)
SAMPLES = st.dictionaries(KEYS, st.tuples(st.binary(max_size=2000), st.binary(min_size=1, max_size=600)), max_size=6)
Samples = dict[str, tuple[bytes, bytes]]


def written(samples: Samples) -> tuple[bytes, list[Member], ShardWriter]:
    """The bytes of a shard of these samples (json, picture), its members, and the writer."""
    sink = io.BytesIO()
    writer = ShardWriter(sink)
    members = [
        writer.add(key, suffix, data)
        for key, parts in sorted(samples.items())
        for suffix, data in zip(("json", "png"), parts, strict=True)
    ]
    writer.close()
    return sink.getvalue(), members, writer


@given(SAMPLES)
@settings(max_examples=60, deadline=None)
def test_members_lie_where_the_writer_says(samples: Samples) -> None:
    shard, members, writer = written(samples)
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
@settings(max_examples=40, deadline=None)
def test_the_last_member_is_an_index_of_all_others(samples: Samples) -> None:
    shard, members, _ = written(samples)
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        infos = tar.getmembers()
    assert infos[-1].name == INDEX_MEMBER == "__index__"
    assert [(i.name, i.offset_data, i.size) for i in infos[:-1]] == [(m.name, m.offset, m.size) for m in members]
    assert read_index(shard) == members


@given(SAMPLES)
@settings(max_examples=20, deadline=None)
def test_the_same_samples_give_the_same_bytes(samples: Samples) -> None:
    assert written(samples)[0] == written(samples)[0]


def test_time_owner_and_mode_are_fixed() -> None:
    shard, _, _ = written({"a": (b"{}", b"picture")})
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        told = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
    assert told == {(0, 0, 0, "lacuna", "lacuna", 0o644)}


def test_plain_webdataset_reads_a_shard_and_does_not_see_the_index(tmp_path: Path) -> None:
    samples = {f"class/{number}": (b"{}", bytes([number]) * 9) for number in range(5)}
    (tmp_path / "shard.tar").write_bytes(written(samples)[0])
    got = {s["__key__"]: s["png"] for s in wds.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)}
    assert got == {key: picture for key, (_, picture) in samples.items()}


@pytest.mark.parametrize("end", [0, 512, 1024, 2048, 5000])
def test_a_cut_shard_has_no_index(end: int) -> None:
    shard, _, _ = written({str(n): (b"{}" * 99, bytes(999)) for n in range(9)})
    with pytest.raises((ValueError, tarfile.TarError)):
        read_index(shard[:end])


def test_a_foreign_tar_has_no_index() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(ValueError, match=r"last member is 'a\.jpg', not '__index__'"):
        read_index(sink.getvalue())


def test_shards_fill_evenly_and_split_in_halves() -> None:
    names = [f"img_align_celeba/{number:06d}" for number in range(4096)]
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    counts = Counter(share_of(digest, 16) for digest in digests)
    assert set(counts) == set(range(16))
    assert max(abs(count - 256) for count in counts.values()) < 80
    assert all(share_of(digest, 32) // 2 == share_of(digest, 16) for digest in digests)
    assert {share_of(digest, 1) for digest in digests} == {0}


@given(st.integers(0, 2**31), st.text("abc/_", min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_fixed_masks_depend_on_seed_and_key_alone_and_redraw(seed: int, key: str) -> None:
    recipe = shard_recipe(masks_per_family=2)
    lines = fixed_masks(recipe, seed, key)
    assert lines == fixed_masks(recipe, seed, key)
    assert len(set(lines)) == len(lines) == 2 * len(recipe.masks)
    assert not set(lines) & (set(fixed_masks(recipe, seed + 1, key)) | set(fixed_masks(recipe, seed, key + "x")))
    for line in lines[:2]:
        mask = parse_recipe(line).draw()
        assert mask.shape == (recipe.mask_size_px, recipe.mask_size_px)
        assert set(mask.flatten().tolist()) == {0, 1}
