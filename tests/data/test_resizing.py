"""Resizing: which part of a photo is taken, what size it comes to, by which method, and what the note says of it."""

import numpy as np
import pytest
from PIL import Image

from pipelines.data.recipe import ShardRecipe
from tests.data.picture_files import cleaned, encoded, pixels, with_orientation
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
    recipe = ShardRecipe("folder", min_side_px=8, resize="short-side", size_px=short_side_px)
    sample = cleaned(encoded(Image.new("RGB", size, (12, 200, 77)), "PNG"), recipe)
    assert (sample.width_px, sample.height_px) == expected
    assert pixels(sample.picture).shape[:2] == expected[::-1]
    assert np.all(pixels(sample.picture) == (12, 200, 77))
    assert sample.suffix == "png"
    assert any("resized" in what for what in sample.normalised) == (min(size) > short_side_px)


def test_a_turned_photo_is_reduced_by_its_upright_short_side() -> None:
    raw = encoded(photo(1, height=60, width=30), "JPEG", exif=with_orientation(6))
    sample = cleaned(raw, ShardRecipe("folder", min_side_px=8, resize="short-side", size_px=15))
    assert (sample.width_px, sample.height_px) == (30, 15)


def test_reducing_keeps_the_colours() -> None:
    raw = encoded(photo(321, 96, 80), "PNG")
    small = pixels(cleaned(raw, ShardRecipe("folder", min_side_px=8, resize="short-side", size_px=16)).picture).astype(
        float
    )
    whole = pixels(raw).astype(float)
    assert np.abs(small.mean(axis=(0, 1)) - whole.mean(axis=(0, 1))).max() < 1
    corner = whole[:10, :10].mean(axis=(0, 1))
    assert np.abs(small[:2, :2].mean(axis=(0, 1)) - corner).max() < 3
