"""Gray of more than 8 bits: it is scaled by its own depth, so that its white is white and its black is black."""

import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.data.picture_files import encode, find_rejection, normalize_whole, pixels

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)
Levels = NDArray[np.uint16]


def tiff(levels: Levels, bits: int, white_is_zero: bool = False, most: int | None = None, kind: int = 1) -> bytes:
    """A gray TIFF, little-endian, of one strip: samples of 12 bits in three bytes for two, or of 16 in two."""
    height, width = levels.shape
    strip = _pack(levels) if bits == 12 else levels.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 0, 277: 1, 278: height}
    tags |= {279: len(strip), 339: kind} | ({281: most} if most is not None else {})
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip


def _pack(levels: Levels) -> bytes:
    pairs = levels.reshape(-1, 2).astype(int)
    parts = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
    return np.stack(parts, axis=1).astype(np.uint8).tobytes()


def ramp(bits: int) -> Levels:
    """From black to the white of this depth."""
    return np.asarray((RAMP * (2**bits - 1)).round(), np.uint16)


@pytest.mark.parametrize(("bits", "most"), [(12, None), (16, None), (16, 1023), (16, 4095), (16, 16383)])
def test_black_and_white_of_every_depth_stay_black_and_white(bits: int, most: int | None) -> None:
    depth = bits if most is None else most.bit_length()
    sample = normalize_whole(tiff(ramp(depth), bits, most=most))
    expected = ramp(depth).astype(int) * 255 // (2**depth - 1)
    assert np.array_equal(pixels(sample.picture)[..., 0], expected)
    assert (expected.min(), expected.max()) == (0, 255)
    assert (f"{depth} bits to 8" in sample.normalised) == (depth != 16)


def test_a_named_maximum_that_is_mere_statistics_brightens_nothing() -> None:
    dark = (RAMP * 20_000).astype(np.uint16)
    for most in (20_000, 0, 4095):
        assert pixels(normalize_whole(tiff(dark, 16, most=most)).picture).max() == 20_000 // 257


@pytest.mark.parametrize("bits", [16])
def test_gray_whose_zero_is_white_is_shown_so(bits: int) -> None:
    shown = pixels(normalize_whole(tiff(ramp(bits), bits, white_is_zero=True)).picture)[..., 0]
    assert np.abs(shown - (255 - RAMP * 255)).max() <= 1


def test_signed_gray_is_refused() -> None:
    assert "whose range nobody knows" in find_rejection(tiff(ramp(15), 16, kind=2))


def test_the_lowest_bits_of_a_png_of_16_bits_are_not_its_depth() -> None:
    dark = Image.fromarray((RAMP * 4095).astype(np.uint16))
    assert pixels(normalize_whole(encode(dark, "PNG")).picture).max() == 4095 // 257
