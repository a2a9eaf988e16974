"""The pairs of a split: every photo with each of its masks, once, in chunks that depend on nothing else."""

import numpy as np
import pytest

from pipelines.evaluation import pairs
from pipelines.evaluation.pairs import count_chunks, hash_pair_list, read_chunk
from pipelines.manifest import Dataset, read_table
from pipelines.masks.spec import parse_mask_spec
from pipelines.records import UsageError

FAMILIES = ("rectangle", "brush", "automaton")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of four photos, so that the small dataset has several and the last one is not full."""
    monkeypatch.setattr(pairs, "PHOTOS_PER_CHUNK", 4)


def rows(dataset: Dataset) -> dict[str, list[str]]:
    """Mask recipes by key, from the tables of the held-out shards."""
    tables = (read_table(dataset.uri, shard).to_pylist() for shard in dataset.split("val"))
    return {row["key"]: row["masks"] for table in tables for row in table if row["outcome"] == "written"}


@pytest.mark.usefixtures("small_chunks")
def test_chunks_hold_every_photo_with_each_of_its_masks_once(dataset: Dataset) -> None:
    chunks = [read_chunk(dataset.uri, "val", "centre-square", c) for c in range(count_chunks(dataset, "val"))]
    assert len(chunks) > 2
    assert all(len(set(chunk.keys)) == 4 for chunk in chunks[:-1])
    found = [pair for chunk in chunks for pair in zip(chunk.keys, chunk.specs, strict=True)]
    expected = [(key, spec) for key, specs in rows(dataset).items() for spec in specs]
    assert sorted(found) == sorted(expected)
    assert len(found) == len(set(found)) == len(FAMILIES) * len(rows(dataset))


def test_a_chunk_is_the_same_however_the_split_is_cut(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_chunk(dataset.uri, "val", "centre-square", 0)
    monkeypatch.setattr(pairs, "PHOTOS_PER_CHUNK", 5)
    parts = [read_chunk(dataset.uri, "val", "centre-square", c) for c in range(count_chunks(dataset, "val"))]
    assert whole.keys == tuple(key for part in parts for key in part.keys)
    assert np.array_equal(whole.images, np.concatenate([part.images for part in parts]))
    assert np.array_equal(whole.masks, np.concatenate([part.masks for part in parts]))


def test_pictures_have_the_size_of_their_masks_and_masks_are_binary(dataset: Dataset) -> None:
    chunk = read_chunk(dataset.uri, "val", "centre-square", 0)
    assert chunk.images.shape == (len(chunk.keys), 32, 32, 3)
    assert chunk.masks.shape == (len(chunk.keys), 32, 32)
    assert chunk.images.dtype == chunk.masks.dtype == np.uint8
    assert set(np.unique(chunk.masks).tolist()) == {0, 1}
    assert (chunk.masks.mean(axis=(1, 2)) > 0).all()


def test_masks_are_those_that_their_recipes_draw(dataset: Dataset) -> None:
    chunk = read_chunk(dataset.uri, "val", "centre-square", 0)
    assert {spec.split()[0] for spec in chunk.specs} == set(FAMILIES)
    for spec, mask in zip(chunk.specs, chunk.masks, strict=True):
        assert np.array_equal(parse_mask_spec(spec).draw(), mask)


def test_the_masks_of_a_photo_share_its_picture(dataset: Dataset) -> None:
    chunk = read_chunk(dataset.uri, "val", "random-square", 0)
    for key in set(chunk.keys):
        same = [chunk.images[i] for i, other in enumerate(chunk.keys) if other == key]
        assert len(same) == 3
        assert all(np.array_equal(image, same[0]) for image in same)


def test_a_chunk_read_twice_is_the_same_even_where_crops_are_drawn(dataset: Dataset) -> None:
    one, other = (read_chunk(dataset.uri, "val", "random-square", 0) for _ in range(2))
    assert np.array_equal(one.images, other.images)


def test_photos_without_masks_are_refused(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"the train photos of .* have no masks: build the dataset with mask families"):
        read_chunk(dataset.uri, "train", "centre-square", 0)


def test_a_split_that_is_not_there_is_refused_with_those_there_are(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"no photos in split 'test' of .*: it has train, val"):
        count_chunks(dataset, "test")


def test_the_digest_of_a_list_sees_order_key_and_recipe() -> None:
    lists = [
        [("a", "m1"), ("b", "m2")],
        [("b", "m2"), ("a", "m1")],
        [("a", "m2"), ("b", "m1")],
        [("a", "m1")],
        [("a", "m1"), ("c", "m2")],
    ]
    assert len({hash_pair_list(iter(list_pairs)) for list_pairs in lists}) == len(lists)
    assert hash_pair_list(iter(lists[0])) == hash_pair_list(iter(lists[0]))


def test_photos_are_never_turned_to_be_scored(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="resize polyphase turns photos at random, for training: use squash"):
        read_chunk(dataset.uri, "val", "polyphase", 0)
