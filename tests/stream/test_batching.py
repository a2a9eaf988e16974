"""What the optimizer sees: the same photos, crops, flips and masks at a position for any world, start and batch."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from infra.world import World
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset
from pipelines.masks.spec import make_mask_spec
from pipelines.records import Batch, UsageError
from pipelines.stream.augmenting import Augmentation
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, Transform
from pipelines.stream.geometry import RESIZES, decode, resize_square
from pipelines.stream.reading import ShardReader

pytestmark = pytest.mark.thorough

CONFIG = StreamConfig(size_px=32, resize="random-square", mask_canvas_px=64, num_lanes=4, block_size=8)
Sample = tuple[str, bytes, bytes]


def batches(
    dataset: Dataset, start: int = 0, batch_size: int = 8, world: World | None = None, config: StreamConfig = CONFIG
) -> Iterator[Batch]:
    """The batches of a fresh stream of seed 0."""
    return Stream((dataset,), config, seed=0).batches(start, batch_size, world or World())


def by_position(taken: list[Batch]) -> dict[int, Sample]:
    """Key, image and masks of every position; each position once."""
    found = {}
    for batch in taken:
        for position, key, image, mask in zip(batch.positions, batch.keys, batch.image, batch.mask, strict=True):
            assert position not in found
            found[position] = key, image.numpy().tobytes(), mask.numpy().tobytes()
    return found


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_world_sees_the_same_samples_at_the_same_positions(dataset: Dataset, size: int) -> None:
    alone = by_position(list(islice(batches(dataset), 12)))
    shares = [by_position(list(islice(batches(dataset, world=World(rank, size)), 12))) for rank in range(size)]
    assert sum(map(len, shares)) == len(alone) == 96
    assert {p: sample for share in shares for p, sample in share.items()} == alone


@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_takes_its_share_of_every_global_batch(dataset: Dataset, size: int) -> None:
    for rank in range(size):
        for number, batch in enumerate(islice(batches(dataset, world=World(rank, size)), 3)):
            assert batch.positions == tuple(p for p in range(8 * number, 8 * number + 8) if p % size == rank)


@pytest.mark.parametrize("start", [1, 8, 45, 100])
def test_a_stream_from_a_counter_is_the_rest_of_the_whole(dataset: Dataset, start: int) -> None:
    whole = by_position(list(islice(batches(dataset), 15)))
    rest = by_position(list(islice(batches(dataset, start), 2)))
    assert rest == {p: whole[p] for p in range(start, start + 16)}


def test_the_batch_size_does_not_change_the_sequence(dataset: Dataset) -> None:
    by_four, by_twelve = (by_position(list(islice(batches(dataset, 0, n), 24 // n))) for n in (4, 12))
    assert by_four == by_twelve


def test_an_epoch_of_batches_holds_every_photo_once(dataset: Dataset) -> None:
    stream = Stream((dataset,), CONFIG, seed=0)
    keys = [key for batch in islice(stream.batches(0, 1, World()), stream.num_samples) for key in batch.keys]
    reader = ShardReader((dataset,), "train")
    assert sorted(keys) == sorted(reader.key(s, n) for s, count in enumerate(reader.counts) for n in range(count))


def test_batches_straddle_the_border_of_epochs(dataset: Dataset) -> None:
    num_samples = Stream((dataset,), CONFIG, seed=0).num_samples
    batch = next(batches(dataset, num_samples - 3))
    assert batch.positions == tuple(range(num_samples - 3, num_samples + 5))
    assert len(batch.image) == 8


def test_shapes_and_ranges_are_those_of_the_contract(dataset: Dataset) -> None:
    batch = next(batches(dataset))
    assert (batch.image.shape, batch.image.dtype) == ((8, 3, 32, 32), torch.uint8)
    assert (batch.mask.shape, batch.mask.dtype) == ((8, 3, 32, 32), torch.uint8)
    assert set(batch.mask.flatten().tolist()) == {0, 1}
    assert all(0 < mask.sum() < mask.numel() for masks in batch.mask for mask in masks)


def test_masks_are_those_of_their_recipes(dataset: Dataset) -> None:
    batch = next(batches(dataset, 20))
    for position, masks in zip(batch.positions, batch.mask.numpy(), strict=True):
        for family, mask in zip(CONFIG.masks, masks, strict=True):
            assert np.array_equal(mask, make_mask_spec(family, 64, 32, 0, "mask", position).draw())


@pytest.mark.parametrize("resize", list(RESIZES))
def test_every_way_to_resize_gives_the_same_batch_again(dataset: Dataset, resize: str) -> None:
    config = replace(CONFIG, resize=resize)
    one, again = (by_position(list(islice(batches(dataset, config=config), 2))) for _ in range(2))
    assert one == again


def photos_by_key(dataset: Dataset) -> dict[str, bytes]:
    """Every train photo squashed to 32x32, channels first."""
    reader = ShardReader((dataset,), "train")
    places = [(s, n) for s, count in enumerate(reader.counts) for n in range(count)]
    stored = [reader.read(*place) for place in places]
    return {s.key: resize_square(decode(s.picture, s.key), "squash", 32, KeyedRng()).tobytes() for s in stored}


def test_photos_come_plain_or_flipped_each_about_half_the_time(dataset: Dataset) -> None:
    config, plain = replace(CONFIG, resize="squash", masks=("rectangle",)), photos_by_key(dataset)
    flipped = []
    for batch in islice(batches(dataset, config=config), 25):
        for key, image in zip(batch.keys, batch.image.permute(0, 2, 3, 1).numpy(), strict=True):
            flipped.append(image[:, ::-1].tobytes() == plain[key])
            assert flipped[-1] or image.tobytes() == plain[key]
    assert 70 <= sum(flipped) <= 130


def test_without_augmentation_photos_come_as_they_are(dataset: Dataset) -> None:
    config, plain = replace(CONFIG, resize="squash", augment=(), masks=("rectangle",)), photos_by_key(dataset)
    batch = next(batches(dataset, config=config))
    for key, image in zip(batch.keys, batch.image.permute(0, 2, 3, 1).numpy(), strict=True):
        assert image.tobytes() == plain[key]


def test_flips_are_those_of_the_position_whatever_came_before(dataset: Dataset) -> None:
    stream = Stream((dataset,), CONFIG, seed=0)
    used = list(islice(stream.batches(0, 8, World()), 3))
    again = list(islice(stream.batches(0, 8, World()), 3))
    assert by_position(used) == by_position(again) == by_position(list(islice(batches(dataset), 3)))


def test_another_seed_gives_other_orders_and_masks(dataset: Dataset) -> None:
    one, other = (next(Stream((dataset,), CONFIG, seed).batches(0, 8, World())) for seed in (0, 1))
    assert one.keys != other.keys
    assert not torch.equal(one.mask, other.mask)


def test_a_photo_gets_other_crops_and_masks_in_the_next_epoch(dataset: Dataset) -> None:
    num_samples = Stream((dataset,), CONFIG, seed=0).num_samples
    taken = by_position(list(islice(batches(dataset, 0, num_samples), 2)))
    first = {taken[p][0]: taken[p][1:] for p in range(num_samples)}
    second = {taken[p][0]: taken[p][1:] for p in range(num_samples, 2 * num_samples)}
    assert first.keys() == second.keys()
    assert all(first[key][1] != second[key][1] for key in first)
    assert sum(first[key][0] == second[key][0] for key in first) <= 2  # a crop of so small a photo may come twice


def test_two_datasets_make_one_stream(dataset: Dataset) -> None:
    both = Stream((dataset, dataset), CONFIG, seed=0)
    keys = [key for batch in islice(both.batches(0, 1, World()), both.num_samples) for key in batch.keys]
    assert both.num_samples == 2 * Stream((dataset,), CONFIG, seed=0).num_samples
    assert all(keys.count(key) == 2 for key in keys)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resize": "stretch"}, "unknown resize 'stretch': use one of squash, centre-square"),
        ({"masks": ("brush", "star")}, "unknown mask family 'star': use one of rectangle, brush, automaton"),
        ({"augment": (Transform("HorizontalFlop"),)}, "unknown .*'HorizontalFlop'"),
        ({"augment": (Transform("HorizontalFlip", {"q": 2}),)}, "HorizontalFlip does not take {'q': 2}"),
        ({"augment": ("HorizontalFlip",)}, r"augment has 'HorizontalFlip': write Transform\("),
        ({"resize_px": 0}, "resize_px is 0: it must be an integer from 1 to 8192"),
        ({"large_px": -1}, "large_px is -1"),
        ({"mask_canvas_px": 100_000}, "mask_canvas_px is 100000"),
        ({"size_px": 32.0}, "size_px is 32.0: it must be an integer"),
        ({"num_lanes": "4"}, "num_lanes is '4'"),
    ],
)
def test_a_wrong_name_is_refused_before_any_work(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(CONFIG, **wrong)


def test_transforms_draw_what_they_drew() -> None:
    """Recorded: where the pixel at the top left comes from, of the 64x64 before a crop to 32 and flips."""
    transforms = (
        Transform("RandomCrop", {"height": 32, "width": 32}),
        Transform("HorizontalFlip"),
        Transform("VerticalFlip"),
    )
    augmentation = Augmentation(replace(CONFIG, size_px=32, resize_px=64, augment=transforms), 7)
    places = np.zeros((64, 64, 3), np.uint8)
    places[..., 0], places[..., 1] = np.indices((64, 64))
    drawn = []
    for position in (0, 1, 2, 10**6, 0):
        drawn.append(augmentation.apply({"image": places}, position)["image"][0, 0, :2].tolist())
    assert drawn == [[8, 25], [42, 44], [45, 8], [54, 33], [8, 25]]


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Transform("ToFloat"), "augment makes float32 of photos, not uint8"),
        (Transform("Normalize"), "augment makes float32 of photos"),
        (Transform("RandomCrop", {"height": 640, "width": 640}), "augment fails at position 0: CropSizeError"),
        (Transform("RandomCrop", {"height": 8, "width": 8, "p": 0.5}), "augment brings photos of 32 px to 8x8"),
        (Transform("FDA"), "does not take|augment fails"),
        (Transform("ToGray", {"num_output_channels": 1, "p": 1.0}), "augment brings photos of 32 px to 32x32|fails"),
    ],
)
def test_transforms_that_do_not_make_photos_are_refused(dataset: Dataset, transform: Transform, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Stream((dataset,), replace(CONFIG, augment=(transform,)), 0)


def test_transforms_that_seldom_make_something_else_are_refused_when_they_do(dataset: Dataset) -> None:
    seldom = (Transform("RandomCrop", {"height": 8, "width": 8, "p": 0.02}),)
    with pytest.raises(UsageError, match="augment brings photos of 32 px to 8x8"):
        for _ in islice(Stream((dataset,), replace(CONFIG, augment=seldom), 0).batches(0, 1, World()), 500):
            pass


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((-1, 4, 0), "images_seen is -1: it must be from 0 to"),
        ((99999999999999999999, 4, 0), "images_seen is 99999999999999999999"),
        ((0, 0, 0), "batch_size is 0: it must be from 1 to"),
        ((0, 10**9, 0), "batch_size is 1000000000"),
        ((0, 4, -1), "num_loader_workers is -1: it must be from 0 to 1024"),
    ],
)
def test_numbers_that_cannot_be_are_refused_at_once(
    dataset: Dataset, numbers: tuple[int, int, int], message: str
) -> None:
    images_seen, batch_size, num_loader_workers = numbers
    with pytest.raises(UsageError, match=message):
        Stream((dataset,), CONFIG, 0).batches(images_seen, batch_size, World(), num_loader_workers)


@pytest.mark.parametrize(("rank", "size"), [(5, 2), (2, 2), (-1, 2), (0, 0), (0, -1)])
def test_a_world_has_its_rank(rank: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"rank {rank} of {size}: ranks are from 0 to size - 1"):
        World(rank, size)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match="no photos in the split train"):
        Stream((), CONFIG, 0)
