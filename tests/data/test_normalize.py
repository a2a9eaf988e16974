"""Cleaning: what is kept byte for byte, what is normalised and how its pixels then look, what is rejected and why.

Pictures are made here, PNGs of depths that Pillow cannot write by hand, so that the expected pixels are known.
"""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import normalize_photo
from pipelines.records import Rejected, Sample
from tests.data.picture_files import (
    EXIF_X_RESOLUTION,
    OTHER,
    RECIPE,
    SUFFIX,
    UNCHECKED,
    WHOLE,
    Pixels,
    encode,
    find_rejection,
    normalize_whole,
    pixels,
    raw_png,
    with_orientation,
)
from tests.making import photo

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage that is made here


@pytest.mark.parametrize("name", WHOLE)
def test_upright_8_bit_rgb_or_gray_is_kept_byte_for_byte(name: str) -> None:
    assert normalize_photo(WHOLE[name], RECIPE) == Sample(WHOLE[name], SUFFIX[name.partition("-")[0]], 40, 48, ())


@pytest.mark.parametrize("name", OTHER)
def test_everything_else_becomes_a_png_that_is_kept_from_then_on(name: str) -> None:
    sample = normalize_whole(OTHER[name])
    assert (sample.suffix, sample.normalised[-1]) == ("png", "encoded PNG")
    assert (sample.height_px, sample.width_px) == pixels(sample.picture).shape[:2]
    assert normalize_photo(sample.picture, RECIPE) == Sample(
        sample.picture, "png", sample.width_px, sample.height_px, normalised=()
    )


@pytest.mark.parametrize("name", ["gif", "bmp", "tiff", "tiff-lzw", "palette", "black and white", "rgba"])
def test_normalizing_changes_the_file_and_not_the_picture(name: str) -> None:
    with Image.open(io.BytesIO(OTHER[name])) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(normalize_whole(OTHER[name]).picture), expected)


def upright_of(stored: Pixels, orientation: int) -> Pixels:
    """What the EXIF standard wants to be seen: where row 0 and column 0 of the stored picture belong."""
    shown = {
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored.transpose(1, 0, 2)[:, ::-1],
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: stored.transpose(1, 0, 2)[::-1],
    }
    return shown[orientation]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_turned_photos_are_stored_upright(file_format: str, orientation: int) -> None:
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    with Image.open(io.BytesIO(encode(photo(123), file_format, **lossless))) as image:
        stored = np.asarray(image.convert("RGB"))
    sample = normalize_whole(encode(photo(123), file_format, exif=with_orientation(orientation), **lossless))
    assert np.array_equal(pixels(sample.picture), upright_of(stored, orientation))
    assert f"orientation {orientation}" in sample.normalised[0]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_orientation_1_is_upright_and_kept(file_format: str) -> None:
    raw = encode(photo(1), file_format, exif=with_orientation(1))
    assert normalize_whole(raw).picture == raw


@pytest.mark.parametrize("alpha", [0, 1, 64, 128, 254, 255])
def test_transparency_is_laid_on_white(alpha: int) -> None:
    raw = encode(Image.new("RGBA", (16, 16), (10, 100, 200, alpha)), "PNG")
    sample = normalize_whole(raw)
    expected = [(c * alpha + 255 * (255 - alpha)) / 255 for c in (10, 100, 200)]
    assert np.abs(pixels(sample.picture)[0, 0] - np.array(expected)).max() <= 1
    assert "transparency on white" in sample.normalised


def see_through(mode: str) -> bytes:
    """A PNG of this mode whose left half is fully transparent and whose right half is opaque dark red or dark gray."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((90, 0, 0, 255), (8, 0, 16, 16))
    if mode == "P":
        return encode(image.convert("RGB").quantize(2), "PNG", transparency=_index_of_black(image))
    if mode == "RGB":
        return encode(image.convert("RGB"), "PNG", transparency=(0, 0, 0))
    if mode == "L":
        return encode(image.convert("L"), "PNG", transparency=0)
    return encode(image.convert(mode), "PNG")


def _index_of_black(image: Image.Image) -> int:
    return int(np.asarray(image.convert("RGB").quantize(2))[0, 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_every_kind_of_transparency_becomes_white(mode: str) -> None:
    sample = normalize_whole(see_through(mode))
    left, right = pixels(sample.picture)[4, 2], pixels(sample.picture)[4, 12]
    assert left.tolist() == [255, 255, 255]
    assert right.max() <= 90
    assert "transparency on white" in sample.normalised


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_to_8_bit(file_format: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    got = pixels(normalize_whole(encode(Image.fromarray(values), file_format)).picture)
    assert np.array_equal(got, np.repeat((values // 257).astype(np.uint8)[:, :, None], 3, axis=2))


def test_16_bit_color_is_not_kept_but_scaled() -> None:
    values = np.linspace(0, 65535, 16 * 16 * 3).astype(np.uint16).reshape(16, 16, 3)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    sample = normalize_whole(raw_png(16, 16, 16, 2, rows))
    assert sample.normalised
    assert np.abs(pixels(sample.picture).astype(int) - values // 257).max() <= 1


def test_gray_of_4_bit_is_not_kept() -> None:
    rows = b"".join(b"\0" + bytes([0x0F] * 8) for _ in range(16))
    sample = normalize_whole(raw_png(16, 16, 4, 0, rows))
    assert sample.normalised
    assert pixels(sample.picture)[0, :2, 0].tolist() == [0, 255]


def test_cmyk_ink_becomes_light() -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    sample = normalize_whole(encode(ink, "JPEG", quality=100))
    assert np.abs(pixels(sample.picture)[8, 8].astype(int) - [0, 255, 255]).max() <= 3
    assert "CMYK to RGB" in sample.normalised


def ycck() -> bytes:
    """A JPEG of photo 10 in YCCK as Adobe writes it: the light of the photo, inverted, as luma and chroma; no black."""
    layers = ImageOps.invert(photo(10)).convert("YCbCr").split()
    raw = encode(Image.merge("CMYK", (*map(ImageOps.invert, layers), Image.new("L", (40, 48)))), "JPEG", quality=100)
    adobe = raw.index(b"Adobe")
    return raw[: adobe + 11] + b"\2" + raw[adobe + 12 :]


@pytest.mark.parametrize("raw", [encode(photo(10).convert("CMYK"), "JPEG", quality=100), ycck()], ids=["CMYK", "YCCK"])
def test_inverted_ink_shows_the_photo(raw: bytes) -> None:
    shown = pixels(normalize_whole(raw).picture).astype(int)
    assert np.abs(shown - np.asarray(photo(10)).astype(int)).max() <= 6


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "webp"])
def test_damage_among_coded_pixels_is_noticed_unless_the_recipe_leaves_that_out(name: str) -> None:
    """A PNG whose chunks are in order but hold too few rows; a JPEG and a WebP whose coded pixels are overwritten."""
    raw = bytearray(WHOLE[name])
    if name == "png":
        raw = bytearray(raw_png(40, 48, 8, 2, bytes(500)))
    else:
        place = raw.index(b"\xff\xda") + 14 if name.startswith("jpeg") else 30
        raw[place : place + 60] = b"\x5a\xff\xd3" * 20
    assert normalize_whole(bytes(raw), UNCHECKED).picture == raw
    assert "cannot be decoded" in find_rejection(bytes(raw))
    assert normalize_whole(WHOLE[name], UNCHECKED) == normalize_whole(WHOLE[name])


def test_keeping_bytes_without_the_check_decodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.data.image.normalize.decode_picture", None)
    monkeypatch.setattr("pipelines.data.image.normalize.find_fault", None)
    for raw in WHOLE.values():
        assert normalize_whole(raw, UNCHECKED).picture == raw


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_a_color_profile_that_is_dropped_is_named(mode: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    raw = encode(photo(1).convert(mode), "PNG", icc_profile=profile, exif=with_orientation(3))
    sample = normalize_whole(raw)
    with Image.open(io.BytesIO(sample.picture)) as image:
        assert "icc_profile" in image.info or "colour profile dropped" in sample.normalised


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am no picture\n" * 9, "not an image"),
        (bytes(5000), "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"\xff\xd8\xff", "JPEG header ends early"),
        (encode(photo(1), "PPM"), "not an image"),
        (encode(photo(1).resize((31, 100)), "PNG"), "31x100 is smaller than 32"),
        (encode(photo(1).resize((100, 31)), "JPEG"), "100x31 is smaller than 32"),
    ],
)
def test_what_is_no_photo_is_rejected_with_the_reason(raw: bytes, reason: str) -> None:
    assert reason in find_rejection(raw, DatasetConfig("folder"))


def test_limits_of_size_are_inclusive() -> None:
    assert isinstance(normalize_photo(encode(photo(1).resize((32, 32)), "PNG"), DatasetConfig("folder")), Sample)
    at_most = DatasetConfig("folder", max_pixels=1600)
    assert isinstance(normalize_photo(encode(photo(1).resize((40, 40)), "PNG"), at_most), Sample)
    assert "40x41 pixels are more than 1600" in find_rejection(encode(photo(1).resize((40, 41)), "PNG"), at_most)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_pictures_that_move_are_rejected(file_format: str) -> None:
    frames = [photo(n).convert("RGB") for n in (1, 99, 555)]
    raw = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert "animated or paged" in find_rejection(raw)


def test_damaged_files_of_any_kind_never_stop_the_build() -> None:
    rng, files = random.Random(5), [raw for _, raw in sorted((WHOLE | OTHER).items())]
    for _ in range(1500):
        raw = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 2, 8])):
            raw[int(rng.random() ** 2 * len(raw))] = rng.randrange(256)
        assert isinstance(normalize_photo(bytes(raw), RECIPE), Sample | Rejected)


def test_a_tiff_whose_second_page_has_no_size_does_not_stop_the_build() -> None:
    raw = bytearray(OTHER["tiff"])
    (first,) = struct.unpack_from("<I", raw, 4)
    (num_tags,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * num_tags, len(raw))
    raw += struct.pack("<HHHIII", 1, 65000, 4, 1, 0, 0)
    assert isinstance(normalize_photo(bytes(raw), RECIPE), Sample | Rejected)


def test_a_turned_photo_whose_exif_is_spoilt_does_not_stop_the_build() -> None:
    exif = with_orientation(6)
    exif[EXIF_X_RESOLUTION] = 72.5
    raw = bytearray(encode(photo(1), "JPEG", exif=exif))
    struct.pack_into(">H", raw, raw.index(struct.pack(">H", EXIF_X_RESOLUTION)) + 2, 2)
    assert isinstance(normalize_photo(bytes(raw), RECIPE), Sample | Rejected)


def test_the_reason_of_an_absurd_size_names_it() -> None:
    assert find_rejection(raw_png(60000, 50000, 8, 2, bytes(99))) == "60000x50000 pixels are more than 100000000"
