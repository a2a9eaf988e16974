"""EXIF of a JPEG in several segments: the photo is turned as Pillow turns it, and as OpenCV does where both agree."""

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.hostile_files import segment
from tests.data.jpeg_files import at_once
from tests.data.picture_files import Pixels, encode, make_texture, normalize_whole, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about EXIF that is spoilt here
PLAIN = encode(make_texture(1), "JPEG")
ORDERS = {"<": b"II*\0", ">": b"MM\0*"}


def directory(order: str, orientation: int | None, gap: int = 0) -> bytes:
    """TIFF data with one tag: the orientation, or a resolution where there is none; `gap` bytes stand before it."""
    tag, kind = (0x0112, 3) if orientation else (0x011A, 4)
    value = struct.pack(f"{order}HH", orientation or 72, 0) if orientation else struct.pack(f"{order}I", 72)
    head = ORDERS[order] + struct.pack(f"{order}I", 8 + gap) + bytes(gap)
    return head + struct.pack(f"{order}HHHI", 1, tag, kind, 1) + value + bytes(4)


def exif(*bodies: bytes) -> bytes:
    """The photo with an EXIF segment for each of the bodies."""
    return at_once(PLAIN, *[segment(0xE1, b"Exif\0\0" + body) for body in bodies])


def by_pillow(raw: bytes) -> Pixels:
    """The photo upright, as Pillow turns it."""
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def by_opencv(raw: bytes) -> Pixels:
    """The photo upright, as OpenCV turns it."""
    return np.asarray(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ORDERS, ORDERS)))
def test_of_two_segments_the_first_counts(first: str, second: str) -> None:
    for one, other in itertools.product(range(1, 9), (1, 3, 6, 8)):
        raw = exif(directory(first, one), directory(second, other))
        stored = pixels(normalize_whole(raw).picture)
        assert np.array_equal(stored, by_pillow(raw)), (one, other)
        assert np.array_equal(stored, by_opencv(raw)), (one, other)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gap", [0, 40])
def test_exif_that_is_split_over_two_segments_is_read_whole(order: str, gap: int) -> None:
    whole = directory(order, 6, gap)
    for place in range(1, len(whole)):
        raw = exif(whole[:place], whole[place:])
        stored = pixels(normalize_whole(raw).picture)
        assert np.array_equal(stored, by_pillow(raw)), place
        assert stored.shape == (40, 48, 3), place


@pytest.mark.parametrize(
    "first",
    [b"", b"neither byte order", directory("<", None), directory("<", 9), b"II*\0\xff\xff\xff\xff"],
    ids=["empty", "spoilt", "of another tag", "of orientation 9", "beyond its end"],
)
def test_what_a_first_segment_leaves_open_is_as_pillow_has_it(first: bytes) -> None:
    raw = exif(first, directory(">", 6))
    assert np.array_equal(pixels(normalize_whole(raw).picture), by_pillow(raw))


@pytest.mark.parametrize("name", ["behind a comment", "behind its frame", "behind its tables"])
def test_exif_counts_wherever_it_stands_before_the_pixels(name: str) -> None:
    own = segment(0xE1, b"Exif\0\0" + directory("<", 8))
    place = {"behind a comment": PLAIN.index(b"\xff\xdb"), "behind its frame": PLAIN.index(b"\xff\xc4")}
    at = place.get(name, PLAIN.index(b"\xff\xda"))
    raw = PLAIN[:at] + segment(0xFE, b"comment") + own + PLAIN[at:]
    stored = pixels(normalize_whole(raw).picture)
    assert np.array_equal(stored, by_pillow(raw))
    assert np.array_equal(stored, by_opencv(raw))


@pytest.mark.parametrize("number", range(1, 9))
def test_a_sign_of_exif_that_stands_there_twice_is_passed_over(number: int) -> None:
    body = b"Exif\0\0" + directory("<", number)
    raw = exif(body)
    assert np.array_equal(pixels(normalize_whole(raw).picture), by_pillow(raw))
    webp = encode(make_texture(1), "WEBP", lossless=True, exif=b"Exif\0\0" + body)
    assert np.array_equal(pixels(normalize_whole(webp).picture), by_pillow(webp))
