"""What goes with the image: planes, the large picture and crops, all of the same view."""

import io
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.manifest import Dataset
from pipelines.records import Batch, CorruptDataError, UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, Transform, refuse_missing_planes
from pipelines.stream.geometry import RESIZES, decode_plane
from tests.conftest import silent
from tests.making import scene_folder, shard_recipe

CONFIG = StreamConfig(
    size_px=32,
    augment=(Transform("HorizontalFlip"), Transform("RandomRotate90")),
    masks=("rectangle",),
    planes=("segmentation",),
    num_lanes=4,
    block_size=8,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Smooth photos whose segmentation map is the photo itself, so that one can be held against the other."""
    root = scene_folder(tmp_path_factory.mktemp("scenes"), 16)
    for path in root.rglob("*.jpg"):
        Image.open(path).save(path.with_name(f"{path.stem}_seg.png"))
    recipe = shard_recipe(source="ade20k-aim", splits="ade20k", planes=("seg",), holdout=0.0)
    out = tmp_path_factory.mktemp("scene-data") / "data"
    return build_dataset(Plan(str(root), str(out), recipe, seed=0), silent)


def first_batches(dataset: Dataset, config: StreamConfig, count: int = 4) -> list[Batch]:
    """The first batches of eight."""
    return list(islice(Stream((dataset,), config, 0).batches(0, 8, World()), count))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean absolute difference, in gray levels."""
    return float((one.float() - other.float()).abs().mean())


@pytest.mark.parametrize("resize", list(RESIZES))
def test_a_plane_is_cropped_and_flipped_with_its_image(scenes: Dataset, resize: str) -> None:
    for batch in first_batches(scenes, replace(CONFIG, resize=resize)):
        plane = batch.planes["segmentation"]
        assert (plane.shape, plane.dtype) == (batch.image.shape, torch.uint8)
        assert distance(batch.image, plane) < 3
        assert distance(batch.image.flip(3), plane) > 5, "the test could not detect a plane that is not flipped"


def test_a_plane_gets_no_value_that_it_did_not_have(scenes: Dataset) -> None:
    levels = first_batches(scenes, replace(CONFIG, resize="random-square", size_px=64))[0].planes["segmentation"]
    stream = Stream((scenes,), CONFIG, 0)
    for position in range(8):
        png = stream.reader.pictures(*stream._order.locate(position), ("seg",))[2]["seg"]
        assert set(levels[position].flatten().tolist()) <= set(np.asarray(Image.open(io.BytesIO(png))).flatten())


def test_the_large_picture_is_the_same_view(scenes: Dataset) -> None:
    config = replace(CONFIG, resize="random-square", large_px=64, planes=())
    for batch in first_batches(scenes, config):
        large = batch.planes["image_large"]
        assert large.shape == (8, 3, 64, 64)
        halved = torch.nn.functional.avg_pool2d(large.float(), 2)
        assert distance(batch.image, halved) < 3
        assert distance(batch.image.flip(3), halved) > 5


def test_asking_for_planes_changes_neither_image_nor_mask(scenes: Dataset) -> None:
    plain, full = (
        first_batches(scenes, replace(CONFIG, planes=planes, large_px=large_px))
        for planes, large_px in (((), None), (("segmentation",), 48))
    )
    for one, other in zip(plain, full, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.mask, other.mask)


def test_a_crop_is_taken_from_the_size_to_crop_from(scenes: Dataset) -> None:
    crop = (Transform("RandomCrop", {"height": 24, "width": 24}),)
    config = replace(CONFIG, size_px=24, resize_px=32, augment=crop, planes=())
    whole = replace(CONFIG, size_px=32, augment=(), planes=())
    for cropped, full in zip(first_batches(scenes, config), first_batches(scenes, whole), strict=True):
        for part, image in zip(cropped.image, full.image, strict=True):
            windows = image.unfold(1, 24, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
            assert any(torch.equal(part, window) for window in windows)


def test_transforms_do_not_flip_in_step(scenes: Dataset) -> None:
    """By one seed for each they would: all at once or none."""
    both = (Transform("HorizontalFlip"), Transform("VerticalFlip"))
    flipped, plain = (first_batches(scenes, replace(CONFIG, augment=a, planes=()), 8) for a in (both, ()))
    kinds = set()
    for one, other in zip(flipped, plain, strict=True):
        for image, source in zip(one.image, other.image, strict=True):
            kinds |= {d for d in ((), (1,), (2,), (1, 2)) if torch.equal(image, source.flip(d))}
    assert len(kinds) == 4


def test_a_dataset_without_the_plane_is_refused_before_work(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"has no plane 'segmentation': build it with --planes seg"):
        refuse_missing_planes(dataset, CONFIG)


def test_a_photo_without_the_plane_is_named(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"class\d/\d+ has no plane 'segmentation'"):
        next(Stream((dataset,), CONFIG, 0).batches(0, 1, World()))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_plane_that_cannot_be_decoded_is_named(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="the segmentation of cats/17 cannot be decoded"):
        decode_plane(data, "segmentation", "cats/17")


def test_planes_keep_their_channels_in_order() -> None:
    for mode, color in (("L", 7), ("RGB", (1, 2, 3)), ("RGBA", (1, 2, 3, 4))):
        sink = io.BytesIO()
        Image.new(mode, (2, 3), color).save(sink, "PNG")
        plane = decode_plane(sink.getvalue(), "edge", "a")
        assert plane.shape[:2] == (3, 2)
        assert plane[0, 0].tolist() == ([color] if mode == "L" else list(color))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"planes": ("depth",)}, "unknown plane 'depth': use one of segmentation, edge, sketch"),
        ({"damaged": "ignore"}, "unknown damaged 'ignore': use one of raise, replace"),
        ({"size_px": 0}, "size_px is 0: it must be an integer from 1 to 8192"),
        ({"large_px": 64, "resize_px": 40}, "large_px excludes resize_px 40"),
        ({"augment": (Transform("HorizontalFlip", {"p": 7}),)}, "HorizontalFlip does not take"),
        ({"augment": (Transform("RandomCrop", {"height": 8}),)}, "RandomCrop does not take"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_a_transform_that_changes_the_size_is_refused(scenes: Dataset) -> None:
    config = replace(CONFIG, augment=(Transform("RandomCrop", {"height": 20, "width": 24}),))
    with pytest.raises(UsageError, match="augment brings photos of 32 px to 24x20, size_px is 32"):
        Stream((scenes,), config, 0)
