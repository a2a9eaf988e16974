"""Planes: kept byte for byte, resized with their photo without new values, refused where they do not fit it."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import normalize_photo, normalize_plane
from pipelines.data.image.resize import RESIZES
from pipelines.records import Rejected, Sample
from tests.data.picture_files import encode, raw_png, with_orientation
from tests.making import photo

KEEP = DatasetConfig("folder", min_side_px=8)
PHOTO = encode(photo(1, 240, 360), "JPEG")
CLASSES = Image.fromarray(np.random.default_rng(1).choice([0, 7, 90, 255], (240, 360)).astype(np.uint8))


def in_palette() -> Image.Image:
    """The classes as indices into a palette of their own."""
    plane = CLASSES.copy()
    plane.putpalette([v for n in range(256) for v in (n, 255 - n, 5)])
    return plane


PLANES = {"gray": CLASSES, "color": CLASSES.convert("RGB"), "palette": in_palette()}


@pytest.mark.parametrize("name", PLANES)
def test_a_plane_of_an_unresized_photo_is_kept_byte_for_byte(name: str) -> None:
    raw = encode(PLANES[name], "PNG")
    assert normalize_plane(raw, PHOTO, KEEP) == raw


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("resize", RESIZES)
def test_a_plane_comes_to_the_size_of_its_photo_with_no_new_value(name: str, resize: str) -> None:
    recipe = DatasetConfig("folder", resize=resize, size_px=100)
    plane, sample = normalize_plane(encode(PLANES[name], "PNG"), PHOTO, recipe), normalize_photo(PHOTO, recipe)
    assert isinstance(plane, bytes) and isinstance(sample, Sample)
    with Image.open(io.BytesIO(plane)) as image:
        assert (image.mode, image.size) == (PLANES[name].mode, (sample.width_px, sample.height_px))
        assert set(np.unique(np.asarray(image))) <= {0, 7, 90, 255}
        assert image.getpalette() == PLANES[name].getpalette()


@pytest.mark.parametrize("resize", RESIZES)
def test_a_plane_shows_the_part_that_its_photo_shows(resize: str) -> None:
    both = Image.new("L", (360, 240), 10)
    both.paste(200, (150, 100, 190, 130))
    recipe = DatasetConfig("folder", resize=resize, size_px=90)
    sample = normalize_photo(encode(both, "PNG"), recipe)
    plane = normalize_plane(encode(both, "PNG"), encode(both, "PNG"), recipe)
    assert isinstance(plane, bytes) and isinstance(sample, Sample)
    marked = [np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 105 for data in (plane, sample.picture)]
    assert (marked[0] != marked[1]).mean() < 0.02
    assert marked[0].any()


TURNED = encode(photo(1, 240, 360), "JPEG", exif=with_orientation(3))


@pytest.mark.parametrize(
    ("raw", "photo_raw", "reason"),
    [
        (encode(photo(1, 240, 360), "JPEG"), PHOTO, "not a PNG of 8 bits a channel"),
        (encode(CLASSES.convert("1"), "PNG"), PHOTO, "not a PNG of 8 bits a channel"),
        (encode(Image.new("I;16", (360, 240)), "PNG"), PHOTO, "not a PNG of 8 bits a channel"),
        (encode(CLASSES.resize((180, 120)), "PNG"), PHOTO, "180x120, its photo 360x240"),
        (encode(CLASSES, "PNG"), TURNED, "turned by EXIF orientation 3"),
        (encode(CLASSES, "PNG")[:-40], PHOTO, "cut or damaged"),
        (raw_png(360, 240, 8, 0, bytes(500)), PHOTO, "cannot be decoded"),
        (b"text", PHOTO, "not an image"),
        (b"", PHOTO, "empty file"),
        (encode(CLASSES, "PNG"), b"text", "its photo is rejected"),
    ],
)
def test_a_plane_that_does_not_fit_is_rejected_with_the_reason(raw: bytes, photo_raw: bytes, reason: str) -> None:
    verdict = normalize_plane(raw, photo_raw, KEEP)
    assert isinstance(verdict, Rejected)
    assert reason in verdict.reason
