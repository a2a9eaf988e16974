"""Resizing: which part of a photo is taken, what size it comes to, by which method, and what the note says of it."""

import io
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.data.build.benchmark import make_natural_photo
from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import check_normalization
from pipelines.data.image.resize import RESIZES, Resize, resize_photo
from pipelines.records import Sample, UsageError
from tests.data.picture_files import WHOLE, Pixels, encode, find_rejection, normalize_whole, pixels, with_orientation
from tests.making import photo

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage that is made here


@pytest.mark.parametrize(
    ("size", "short_side_px", "expected"),
    [
        ((40, 48), 20, (20, 24)),
        ((100, 48), 24, (50, 24)),
        ((48, 100), 24, (24, 50)),
        ((33, 100), 32, (32, 97)),
        ((64, 64), 32, (32, 32)),
        ((40, 48), 40, (40, 48)),
        ((40, 48), 64, (40, 48)),
    ],
)
def test_the_short_side_is_reduced_and_never_enlarged(
    size: tuple[int, int], short_side_px: int, expected: tuple[int, int]
) -> None:
    recipe = DatasetConfig("folder", min_side_px=8, resize="short-side", size_px=short_side_px)
    sample = normalize_whole(encode(Image.new("RGB", size, (12, 200, 77)), "PNG"), recipe)
    assert (sample.width_px, sample.height_px) == expected
    assert pixels(sample.picture).shape[:2] == expected[::-1]
    assert np.all(pixels(sample.picture) == (12, 200, 77))
    assert sample.suffix == "png"
    assert any("resized" in what for what in sample.normalised) == (min(size) > short_side_px)


def test_a_turned_photo_is_reduced_by_its_upright_short_side() -> None:
    raw = encode(photo(1, height=60, width=30), "JPEG", exif=with_orientation(6))
    sample = normalize_whole(raw, DatasetConfig("folder", min_side_px=8, resize="short-side", size_px=15))
    assert (sample.width_px, sample.height_px) == (30, 15)


def test_reducing_keeps_the_colors() -> None:
    raw = encode(photo(321, 96, 80), "PNG")
    small = pixels(
        normalize_whole(raw, DatasetConfig("folder", min_side_px=8, resize="short-side", size_px=16)).picture
    ).astype(float)
    whole = pixels(raw).astype(float)
    assert np.abs(small.mean(axis=(0, 1)) - whole.mean(axis=(0, 1))).max() < 1
    corner = whole[:10, :10].mean(axis=(0, 1))
    assert np.abs(small[:2, :2].mean(axis=(0, 1)) - corner).max() < 3


def gradient(width: int, height: int) -> Image.Image:
    """Red encodes the column, green the row: x and y of any pixel, as 255ths of the size."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 / width, y * 255 / height, x * 0], axis=2).astype(np.uint8))


def window(sample: Sample) -> tuple[int, ...]:
    """The part of a gradient that a sample shows: left, top, right, bottom as 255ths of its size."""
    shown = pixels(sample.picture)
    return tuple(int(v) for v in (*shown[0, 0, :2], *shown[-1, -1, :2]))


@pytest.mark.parametrize(
    ("resize", "size_px", "photo_size", "expected", "seen"),
    [
        ("squash", 50, (200, 100), (50, 50), (0, 0, 255, 255)),
        ("squash", 50, (20, 10), (50, 50), (0, 0, 255, 255)),
        ("squash", 50, (200, 10), (50, 50), (0, 0, 255, 255)),
        ("centre-square", 50, (200, 100), (50, 50), (64, 0, 191, 255)),
        ("centre-square", 50, (20, 40), (50, 50), (0, 64, 255, 191)),
        ("short-side", 50, (200, 100), (100, 50), (0, 0, 255, 255)),
        ("celeba-178", 89, (178, 218), (89, 89), (0, 23, 255, 231)),
        ("celeba-178", 256, (178, 218), (256, 256), (0, 23, 255, 231)),
        ("celeba-178", 178, (356, 218), (178, 178), (64, 23, 191, 231)),
    ],
)
def test_each_policy_shows_the_part_it_says(
    resize: str, size_px: int, photo_size: tuple[int, int], expected: tuple[int, int], seen: tuple[int, ...]
) -> None:
    raw = encode(gradient(*photo_size), "PNG")
    sample = normalize_whole(raw, DatasetConfig("folder", min_side_px=8, resize=resize, size_px=size_px))
    assert (sample.width_px, sample.height_px) == expected == pixels(sample.picture).shape[1::-1]
    assert np.abs(np.array(window(sample)) - seen).max() <= 12 + 255 // min(photo_size)


def test_area_is_the_mean_of_what_lies_under_a_pixel() -> None:
    values = np.random.default_rng(3).integers(0, 256, (48, 96, 3)).astype(np.uint8)
    recipe = DatasetConfig("folder", min_side_px=8, resize="short-side", size_px=16)
    small = pixels(normalize_whole(encode(Image.fromarray(values), "PNG"), recipe).picture)
    means = values.reshape(16, 3, 32, 3, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
def test_the_note_says_sizes_method_and_library(resize: str) -> None:
    recipe = DatasetConfig("folder", min_side_px=8, resize=resize, size_px=64, encode="jpeg")
    sample = normalize_whole(encode(photo(1, 200, 300), "JPEG"), recipe)
    size = {"squash": "300x200", "centre-square": "200x200", "short-side": "300x200", "celeba-178": "178x178"}[resize]
    to = "96x64" if resize == "short-side" else "64x64"
    method = "area" if resize == "squash" else "smoothed cubic, then halved"
    assert sample.normalised[-2:] == (f"resized {size} to {to}: {method}, OpenCV", "encoded JPEG 95 4:4:4")
    assert sample.suffix == "jpg"
    with Image.open(io.BytesIO(sample.picture)) as image:
        assert image.format == "JPEG"


def test_a_side_that_grows_beside_one_that_shrinks_is_interpolated() -> None:
    recipe = DatasetConfig("folder", min_side_px=8, resize="squash", size_px=50)
    sample = normalize_whole(encode(gradient(200, 10), "PNG"), recipe)
    assert sample.normalised[0] == "resized 200x10 to 50x50: area, then cubic, OpenCV"


def decibels(one: Pixels, other: Pixels) -> float:
    """PSNR of uint8 pixels."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("size_px", [315, 300, 256, 230, 200, 170, 150, 128, 100, 85, 60])
def test_reducing_is_as_near_to_an_antialiased_bicubic_as_area_is(size_px: int) -> None:
    whole, target = make_natural_photo(320, 320), (size_px, size_px)
    wanted = np.asarray(Image.fromarray(whole).resize(target, Image.Resampling.BICUBIC))
    ours, _ = resize_photo(whole, Resize(0, 0, 320, 320, *target))
    area = cv2.resize(whole, target, interpolation=cv2.INTER_AREA).astype(np.uint8)
    assert decibels(ours, wanted) > decibels(area, wanted) - 0.5


@pytest.mark.parametrize(
    ("size", "target", "method"),
    [
        ((40, 30), (64, 64), "cubic"),
        ((40, 30), (64, 20), "smoothed cubic"),
        ((90, 60), (30, 30), "area"),
        ((61, 60), (60, 59), "smoothed cubic"),
        ((100, 90), (40, 40), "smoothed cubic, then halved"),
        ((100, 60), (40, 40), "area"),
        ((300, 290), (64, 64), "area"),
        ((200, 10), (50, 50), "area, then cubic"),
    ],
)
@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "color"])
def test_the_sizes_decide_on_the_method(
    size: tuple[int, int], target: tuple[int, int], method: str, channels: tuple[int, ...]
) -> None:
    flat = np.full((size[1], size[0], *channels), 77, np.uint8)
    small, done = resize_photo(flat, Resize(0, 0, *size, *target))
    assert done == [f"resized {size[0]}x{size[1]} to {target[0]}x{target[1]}: {method}, OpenCV"]
    assert small.shape == (target[1], target[0], *channels)
    assert np.all(small == 77)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("resize", ["squash", "centre-square", "short-side"])
def test_a_photo_that_has_the_size_already_is_kept_byte_for_byte(name: str, resize: str) -> None:
    square = encode(Image.open(io.BytesIO(WHOLE[name])).resize((40, 40)), name.partition("-")[0].upper())
    assert normalize_whole(square, DatasetConfig("folder", min_side_px=8, resize=resize, size_px=40)).picture == square


def test_a_photo_that_holds_no_178_squared_is_rejected() -> None:
    recipe = DatasetConfig("folder", min_side_px=8, resize="celeba-178", size_px=64)
    assert "177x218 holds no 178x178 px" in find_rejection(encode(photo(1, 218, 177), "PNG"), recipe)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scaled", [False, True])
def test_the_upright_photo_is_what_is_resized(orientation: int, scaled: bool) -> None:
    upright = Image.new("RGB", (640, 400), "red")
    upright.paste("blue", (320, 0, 640, 400))
    upright.paste("green", (0, 200, 640, 400))
    stored = Image.fromarray(np.ascontiguousarray(turn_back(np.asarray(upright), orientation)))
    raw = encode(stored, "JPEG", quality=95, exif=with_orientation(orientation))
    sample = normalize_whole(raw, DatasetConfig("folder", resize="short-side", size_px=100, scaled_decode=scaled))
    shown = pixels(sample.picture).astype(int)
    assert shown.shape == (100, 160, 3)
    for (row, column), color in {(20, 20): (255, 0, 0), (20, 140): (0, 0, 255), (80, 20): (0, 128, 0)}.items():
        assert np.abs(shown[row, column] - color).max() <= 4
    quarter = "160x100" if orientation < 5 else "100x160"
    assert (f"decoded at {quarter}, libjpeg-turbo" in sample.normalised) == scaled


def turn_back(upright: Pixels, orientation: int) -> Pixels:
    """The pixels whose upright view by this orientation is the given one."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }
    return turned[orientation]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("side_px", [64, 100, 178])
def test_decoding_at_a_fraction_shows_nearly_the_same(resize: str, side_px: int) -> None:
    raw = encode(photo(7, 500, 731), "JPEG", quality=95)
    recipe = DatasetConfig("folder", resize=resize, size_px=side_px)
    whole, scaled = (
        pixels(normalize_whole(raw, replace(recipe, scaled_decode=s)).picture).astype(int) for s in (False, True)
    )
    assert whole.shape == scaled.shape
    assert np.abs(whole - scaled).max() <= 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": "stretch", "size_px": 9}, "unknown resize 'stretch': use one of none, squash, centre-square"),
        ({"resize": "squash"}, "size_px is None: resize 'squash' needs a size"),
        ({"resize": "squash", "size_px": 0}, "size_px is 0: resize 'squash' needs a size"),
        ({"size_px": 256}, "size_px is 256, resize is 'none': name the policy"),
        ({"encode": "webp"}, "unknown encode 'webp': use one of png, jpeg"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_normalization(DatasetConfig("folder", **changes))
