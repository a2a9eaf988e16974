"""Classical fillers: known pixels stay, holes get colors of the photo, and texture goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.classical import METHODS
from pipelines.evaluation.models import Pictures, open_model
from pipelines.evaluation.patches import from_blocks, reduce_picture, to_blocks
from pipelines.records import UsageError
from tests.making import photo

COPYING = ("nearest-patch", "patchmatch")
OURS = ("biharmonic", *COPYING)


def stripes(height: int, width: int) -> Pictures:
    """Vertical stripes of two colors, four pixels wide each."""
    dark = (np.arange(width) // 4 % 2 == 0)[None, :, None]
    return np.where(dark, np.uint8(40), np.uint8(200)).repeat(height, 0).repeat(3, 2)


def fill(name: str, image: Pictures, mask: Pictures) -> Pictures:
    return np.asarray(open_model(name).fill(image[None], mask[None])[0], np.uint8)


@pytest.mark.parametrize("name", OURS)
@settings(max_examples=30)
@given(seed=st.integers(0, 9999), height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0.01, 0.99))
def test_known_pixels_stay_and_the_hole_does_not_matter(
    name: str, seed: int, height: int, width: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = (rng.random((height, width)) < share).astype(np.uint8)
    mask[rng.integers(height), rng.integers(width)] = 0
    filled = fill(name, image, mask)
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert np.array_equal(filled, fill(name, np.where(mask[..., None] > 0, 255 - image, image), mask))


@pytest.mark.parametrize("name", COPYING)
@settings(max_examples=25)
@given(seed=st.integers(0, 9999), height=st.integers(1, 40), width=st.integers(1, 40))
def test_colors_of_a_fill_are_between_those_that_are_known(name: str, seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 121, (height, width, 3), np.uint8)
    mask = (rng.random((height, width)) < 0.5).astype(np.uint8)
    mask[0, 0] = 0
    image[mask > 0] = 255
    known, made = image[mask == 0], fill(name, image, mask)[mask > 0]
    assert (made >= known.min(0)).all()
    assert (made <= known.max(0)).all()


@pytest.mark.parametrize("name", COPYING)
def test_stripes_go_on_through_a_hole(name: str) -> None:
    image, mask = stripes(64, 96), np.zeros((64, 96), np.uint8)
    mask[20:44, 30:62] = 1
    telea = np.abs(fill("telea", np.where(mask[..., None] > 0, 0, image), mask).astype(int) - image)[mask > 0].mean()
    error = np.abs(fill(name, image, mask).astype(int) - image)[mask > 0].mean()
    assert error < 5 < telea


def test_a_biharmonic_fill_goes_on_with_a_slope() -> None:
    slope = np.add.outer(2 * np.arange(50), np.arange(60)).astype(np.uint8)
    image, mask = slope[..., None].repeat(3, 2), np.zeros((50, 60), np.uint8)
    mask[15:35, 20:45] = 1
    assert np.abs(fill("biharmonic", image, mask).astype(int) - image).max() <= 1


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (3, 40), (40, 6), (33, 33)])
def test_one_known_pixel_is_enough(name: str, shape: tuple[int, int]) -> None:
    image, mask = np.full((*shape, 3), 9, np.uint8), np.ones(shape, np.uint8)
    image[-1, -1], mask[-1, -1] = (10, 120, 230), 0
    assert np.abs(fill(name, image, mask).astype(int) - (10, 120, 230)).max() <= 1


@pytest.mark.parametrize("name", OURS)
def test_a_hole_at_all_borders_is_filled_from_the_middle(name: str) -> None:
    image, mask = np.asarray(photo(3, 48, 64)), np.ones((48, 64), np.uint8)
    mask[12:36, 16:48] = 0
    filled = fill(name, np.where(mask[..., None] > 0, 0, image).astype(np.uint8), mask)
    assert (filled[mask > 0].sum(1) > 0).all()


@pytest.mark.parametrize("name", OURS)
def test_a_hole_without_a_known_pixel_is_refused(name: str) -> None:
    masks = np.stack([np.zeros((5, 7), np.uint8), np.ones((5, 7), np.uint8)])
    with pytest.raises(UsageError, match=r"mask 2 of 2 covers all 7x5 px of its photo"):
        open_model(name).fill(np.zeros((2, 5, 7, 3), np.uint8), masks)


@pytest.mark.parametrize("name", METHODS)
def test_a_photo_without_a_hole_stays(name: str) -> None:
    image = np.asarray(photo(1, 20, 30))
    assert np.array_equal(fill(name, image, np.zeros((20, 30), np.uint8)), image)


@pytest.mark.parametrize("name", COPYING)
def test_large_windows_get_pixels_of_the_photo_itself(name: str) -> None:
    image, mask = stripes(1000, 800), np.zeros((1000, 800), np.uint8)
    mask[300:700, 203:603] = 1
    filled = fill(name, image, mask)
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    off = (np.abs(filled.astype(int) - 40) > 30) & (np.abs(filled.astype(int) - 200) > 30)
    assert off.mean() < 0.02  # neither of the two colors


@settings(max_examples=40)
@given(factor=st.integers(1, 5), height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_blocks_come_back_and_a_smaller_picture_sees_no_hole(factor: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(from_blocks(to_blocks(picture, factor), factor, height, width), picture)
    hole = rng.random((height, width)) < 0.6
    hole[0, 0] = False
    flat = np.where(hole[..., None], picture, np.uint8(77))
    small, unknown = reduce_picture(flat, hole, factor)
    assert not unknown.all()
    assert (small[~unknown] == 77).all()


def test_models_name_the_library_of_a_method() -> None:
    assert {name: sorted(open_model(name).identity) for name in METHODS} == {
        "telea": ["model", "opencv"],
        "navier-stokes": ["model", "opencv"],
        "biharmonic": ["model", "scikit-image"],
        "nearest-patch": ["model", "numpy"],
        "patchmatch": ["model", "numpy"],
    }


@pytest.mark.parametrize("name", OURS)
def test_a_method_has_no_procedure(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has no procedure, 'local' was given"):
        open_model(name, procedure="local")
