"""From a stored picture to the square that a network sees, by every policy."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.keyed_rng import KeyedRng
from pipelines.records import CorruptDataError
from pipelines.stream.geometry import RESIZES, decode, resize_square
from tests.making import photo

POLICIES = pytest.mark.parametrize("policy", list(RESIZES))


def picture(height: int, width: int, number: int = 0) -> NDArray[np.uint8]:
    """A smooth picture of this size."""
    return np.asarray(photo(number, height, width), np.uint8)


def coordinates(height: int, width: int) -> NDArray[np.uint8]:
    """Red is the row, green the column."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y, x, np.zeros_like(y)], axis=2).astype(np.uint8)


@POLICIES
@pytest.mark.parametrize("size", [(48, 40), (40, 48), (32, 32), (20, 90), (64, 31), (1, 1)], ids=str)
def test_every_policy_gives_a_square_of_the_size(policy: str, size: tuple[int, int]) -> None:
    image = resize_square(picture(*size), policy, 32, KeyedRng("size"))
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@POLICIES
def test_every_policy_depends_on_its_picture_and_chance_alone(policy: str) -> None:
    for number in range(10):
        one, again = (resize_square(picture(48, 40), policy, 16, KeyedRng("same", number)) for _ in range(2))
        assert np.array_equal(one, again)


@POLICIES
def test_a_policy_leaves_its_picture_as_it_is(policy: str) -> None:
    image = picture(48, 40)
    before = image.copy()
    resize_square(image, policy, 16, KeyedRng("kept"))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(("policy", "random"), [("squash", False), ("centre-square", False), ("random-square", True)])
def test_only_random_policies_use_their_chance(policy: str, random: bool) -> None:
    drawn = {resize_square(picture(48, 40), policy, 16, KeyedRng("use", n)).tobytes() for n in range(20)}
    assert (len(drawn) > 1) == random


def test_every_policy_is_known_by_its_name() -> None:
    assert set(RESIZES) >= {"squash", "centre-square", "random-square", "polyphase"}


@pytest.mark.parametrize(
    ("size", "top", "left"), [((30, 20), 5, 0), ((20, 30), 0, 5), ((21, 30), 0, 4), ((20, 20), 0, 0)]
)
def test_centre_square_is_the_middle_of_the_picture(size: tuple[int, int], top: int, left: int) -> None:
    side = min(size)
    square = resize_square(coordinates(*size), "centre-square", side, KeyedRng())
    assert np.array_equal(square, coordinates(*size)[top : top + side, left : left + side])


def test_centre_square_of_celeba_is_its_178_px_crop() -> None:
    square = resize_square(coordinates(218, 178), "centre-square", 178, KeyedRng())
    assert (square[0, 0, 0], square[-1, -1, 0]) == (20, 197)


def test_squash_of_two_by_two_blocks_is_their_mean() -> None:
    grey = np.array([[0, 4, 10, 10], [4, 8, 10, 10], [0, 0, 1, 3], [0, 0, 5, 7]], np.uint8)
    assert resize_square(grey[..., None].repeat(3, axis=2), "squash", 2, KeyedRng())[..., 0].tolist() == [[4, 10], [0, 4]]


def test_random_square_is_a_piece_of_the_picture_of_at_least_half_its_short_side() -> None:
    sides = set()
    for number in range(300):
        square = resize_square(coordinates(60, 80), "random-square", 16, KeyedRng("piece", number)).astype(int)
        top, bottom, left, right = square[0, 0, 0], square[-1, 0, 0], square[0, 0, 1], square[0, -1, 1]
        assert 0 <= top < bottom < 60
        assert 0 <= left < right < 80
        sides.add(round((bottom - top) * 16 / 15))
    assert min(sides) >= 29
    assert max(sides) >= 58


def test_random_square_takes_every_corner_of_the_picture() -> None:
    squares = [resize_square(coordinates(40, 40), "random-square", 20, KeyedRng("corner", n)).astype(int) for n in range(300)]
    small = [s for s in squares if s[-1, 0, 0] - s[0, 0, 0] < 26]
    for channel in (0, 1):
        assert min(s[0, 0, channel] for s in small) <= 1
        assert max(s[-1, -1, channel] for s in small) >= 38


def test_random_square_does_not_enlarge_where_it_need_not() -> None:
    for number in range(50):
        square = resize_square(coordinates(40, 60), "random-square", 40, KeyedRng("whole", number))
        assert np.array_equal(square[:, 0, 0], np.arange(40))


def test_polyphase_takes_every_second_pixel_of_a_turned_picture() -> None:
    image, size_px = coordinates(32, 32), 16  # twice the size already: the cubic resize changes nothing
    phases = {
        np.rot90(image, turn)[i::2, j::2].tobytes(): (turn, i, j) for turn in range(4) for i in (0, 1) for j in (0, 1)
    }
    drawn = [phases[resize_square(image, "polyphase", size_px, KeyedRng("phase", n)).tobytes()] for n in range(400)]
    assert set(drawn) == set(phases.values())


@pytest.mark.parametrize("suffix", ["PNG", "WEBP"])
def test_a_lossless_picture_is_decoded_as_rgb(suffix: str) -> None:
    sink = io.BytesIO()
    Image.fromarray(picture(20, 30, 123)).save(sink, suffix, lossless=True)
    assert np.array_equal(decode(sink.getvalue(), "a"), picture(20, 30, 123))


def test_a_grey_picture_is_decoded_as_rgb() -> None:
    sink = io.BytesIO()
    Image.fromarray(np.array([[0, 200]], np.uint8)).save(sink, "PNG")
    assert decode(sink.getvalue(), "a").tolist() == [[[0] * 3, [200] * 3]]


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_what_cannot_be_decoded_is_named(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="the picture of cats/17 cannot be decoded"):
        decode(data, "cats/17")
