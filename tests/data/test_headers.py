"""Headers: our own parser and Pillow see the same size, orientation and kind in files of every format and mode."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.data.image.header import FORMATS, Header, read_header
from pipelines.records import Rejected
from tests.data.picture_files import OTHER, WHOLE, encode, with_orientation

MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["L", "P"],
    "BMP": ["RGB", "L", "P"],
    "TIFF": ["RGB", "L", "CMYK", "LAB", "I;16"],
}
KINDS = st.sampled_from([(name, mode) for name, modes in MODES.items() for mode in modes])


def header(raw: bytes) -> Header:
    """The header of a file that has one."""
    found = read_header(raw)
    assert isinstance(found, Header), found
    return found


@given(KINDS, st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=200)
def test_format_and_size_are_what_pillow_says(kind: tuple[str, str], width: int, height: int) -> None:
    name, mode = kind
    found = header(encode(Image.new(mode, (width, height)), name))
    assert (found.format, found.width_px, found.height_px) == (name, width, height)
    assert found.plain == (name in ("JPEG", "PNG", "WEBP") and mode in ("RGB", "L"))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_and_the_upright_size_follows(file_format: str, orientation: int) -> None:
    found = header(encode(Image.new("RGB", (30, 20)), file_format, exif=with_orientation(orientation)))
    assert (found.orientation, found.width_px, found.height_px) == (orientation, 30, 20)
    assert found.upright_size == ((30, 20) if orientation < 5 else (20, 30))


@given(st.binary(max_size=60), st.sampled_from(sorted(WHOLE | OTHER)), st.integers(0, 700))
@settings(max_examples=500)
def test_nothing_makes_it_raise(noise: bytes, name: str, place: int) -> None:
    raw = (WHOLE | OTHER)[name]
    for damaged in (raw[:place] + noise, raw[:place] + noise + raw[place + len(noise) :], raw[:8] + noise):
        found = read_header(damaged)
        assert isinstance(found, Rejected) or found.width_px > 0 < found.height_px


def test_every_format_is_one_that_pillow_knows_by_this_name() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def test_a_name_says_nothing() -> None:
    with Image.open(io.BytesIO(WHOLE["jpeg"])) as image:
        assert header(encode(image, "PNG")).format == "PNG"


@pytest.mark.realdata
@pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="no real photos: set LACUNA_DATA to their folder")
def test_real_photos_are_what_pillow_says_they_are() -> None:
    paths = [path for path in Path(os.environ["LACUNA_DATA"]).rglob("*.jp*g") if path.is_file()]
    assert paths
    for path in paths:
        found = header(path.read_bytes())
        with Image.open(path) as image:
            assert (found.format, found.width_px, found.height_px) == (image.format, *image.size), path
            assert found.orientation == image.getexif().get(0x0112, 1), path
            assert found.plain == (image.mode in ("RGB", "L")), path
