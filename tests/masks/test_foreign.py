"""Masks that others drew: the pictures that are understood, and each refusal once."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.masks.foreign import read_mask
from pipelines.masks.spec import make_mask_spec
from pipelines.records import UsageError

SIZE = (40, 60)


def hole() -> NDArray[np.uint8]:
    """A mask of 10x20 hole pixels in the middle."""
    mask = np.zeros(SIZE, np.uint8)
    mask[15:25, 20:40] = 1
    return mask


def png(pixels: NDArray[np.generic] | Image.Image) -> bytes:
    """The pixels as PNG."""
    sink = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(sink, "PNG")
    return sink.getvalue()


def read(data: bytes, color: str = "auto") -> NDArray[np.uint8]:
    return read_mask(data, SIZE, color, "holes/a.png")[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_white_on_black_is_a_hole_in_every_mode(mode: str) -> None:
    mask = read(png(Image.fromarray(hole() * np.uint8(255)).convert(mode)))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, hole())


@pytest.mark.parametrize("channels", [1, 3])
def test_an_array_of_zeros_and_ones_is_understood(channels: int) -> None:
    pixels = hole() if channels == 1 else np.repeat(hole()[..., None], 3, axis=2)
    assert np.array_equal(read(png(pixels)), hole())


def test_the_soft_edges_of_a_jpeg_are_understood() -> None:
    sink = io.BytesIO()
    Image.fromarray(hole() * np.uint8(255)).save(sink, "JPEG", quality=95)
    assert np.array_equal(read(sink.getvalue()), hole())


def test_a_black_hole_is_inverted_on_request() -> None:
    assert np.array_equal(read(png((1 - hole()) * np.uint8(255)), "black"), hole())


def test_white_is_trusted_where_auto_would_refuse() -> None:
    mask = read(png((1 - hole()) * np.uint8(255)), "white")
    assert np.array_equal(mask, 1 - hole())


def test_a_large_hole_inside_a_clear_border_is_not_taken_for_inverted() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[1:-1, 1:-1] = 1
    assert np.array_equal(read(png(mask * np.uint8(255))), mask)


def noise() -> NDArray[np.uint8]:
    """Gray of every level."""
    return np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)


def color_picture() -> NDArray[np.uint8]:
    """A red hole."""
    return np.stack([hole() * np.uint8(255), hole() * 0, hole() * 0], axis=2)


def see_through() -> NDArray[np.uint8]:
    """A mask whose hole is transparent."""
    return np.dstack([hole() * np.uint8(255)] * 3 + [(1 - hole()) * np.uint8(255)])


REFUSALS = {
    "nothing": (b"", "is not a picture: give a mask as PNG"),
    "text": (b"no picture at all", "is not a picture: give a mask as PNG"),
    "cut": (png(noise())[:-40], "is not a picture: give a mask as PNG"),
    "other size": (png(hole().T * np.uint8(255)), "is 40x60, the photo is 60x40: give a picture of the photo"),
    "16 bit": (png(hole().astype(np.uint16) * 65535), "has 16 bits a channel: give an 8-bit or 1-bit mask"),
    "transparent": (png(see_through()), "has transparency: give a mask of black and white pixels"),
    "color": (png(color_picture()), "is a color picture: give a mask of black and white pixels"),
    "gray": (png(noise()), r"is 87% gray: give black and white pixels"),
    "empty": (png(hole() * 0), "is empty: no pixel is white. Give a hole"),
    "full": (png(hole() * 0 + np.uint8(255)), "is full: every pixel is white. Give a hole"),
    "inverted": (png((1 - hole()) * np.uint8(255)), "looks inverted: 92% of it and 100% of its border are white"),
}


@pytest.mark.parametrize("what", list(REFUSALS))
def test_what_is_no_mask_is_refused_with_its_name_and_the_reason(what: str) -> None:
    data, message = REFUSALS[what]
    with pytest.raises(UsageError, match=rf"^holes/a\.png {message}"):
        read(data)


def test_an_inverted_mask_is_refused_with_advice() -> None:
    with pytest.raises(UsageError, match="Use --hole black if black is the hole, --hole white if white is"):
        read(REFUSALS["inverted"][0])


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("color", ["auto", "white", "black"])
def test_a_mask_of_one_color_is_refused_whatever_the_hole(level: int, color: str) -> None:
    with pytest.raises(UsageError, match=rf"hole color: {color}\)"):
        read(png(np.full(SIZE, level, np.uint8)), color)


@pytest.mark.parametrize(("level", "lie"), [(0, "every pixel is white"), (255, "no pixel is white")])
def test_the_reason_is_true_of_the_picture_also_where_black_is_the_hole(level: int, lie: str) -> None:
    with pytest.raises(UsageError) as fault:
        read(png(np.full(SIZE, level, np.uint8)), "black")
    assert lie not in str(fault.value)


@pytest.mark.parametrize(
    ("family", "noticed"),
    [
        ("rectangle", 95),
        ("freeform", 90),
        ("freeform-brush", 90),
        ("brush-square", 90),
        ("brush", 30),
        ("automaton", 0),
    ],
)
def test_inverted_masks_are_often_noticed_and_upright_ones_never_doubted(family: str, noticed: int) -> None:
    masks = [make_mask_spec(family, 256, 256, "foreign", number).draw() for number in range(100)]
    for mask in masks:
        assert np.array_equal(read_mask(png(mask * np.uint8(255)), (256, 256), "auto", "a")[0], mask)
    assert sum(looks_inverted(1 - mask) for mask in masks) >= noticed


def looks_inverted(mask: NDArray[np.uint8]) -> bool:
    """Whether the mask is refused with the reason that it is inverted; another reason is an error."""
    try:
        read_mask(png(mask * np.uint8(255)), (mask.shape[0], mask.shape[1]), "auto", "a")
    except UsageError as reason:
        assert "looks inverted" in str(reason)
        return True
    return False


@pytest.mark.realdata
@pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA is not set")
def test_nvidia_masks_are_taken_as_they_are_and_noticed_when_inverted() -> None:
    files = sorted(Path(os.environ["LACUNA_DATA"], "masks", "test_mask").glob("*.png"))[::8]
    masks = [read_mask(file.read_bytes(), (512, 512), "auto", file.name)[0] for file in files]
    assert sum(looks_inverted(1 - mask) for mask in masks) > 0.7 * len(masks)
