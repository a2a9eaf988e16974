"""Which pixels are those of a mask: two levels after JPEG or blur, not pale things on white, not a sky at night."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipelines.data.build.benchmark import make_natural_photo
from pipelines.data.image.mask_files import has_flat_colors
from tests.data.building import mask


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("size", [32, 256])
def test_masks_are_flat_after_jpeg_and_photos_are_not(quality: int, size: int) -> None:
    natural = Image.fromarray(make_natural_photo(size, size))
    for image, flat in (
        (mask(size, size), True),
        (natural, False),
        (natural.convert("L"), False),
    ):
        sink = BytesIO()
        image.save(sink, "JPEG", quality=quality)
        assert has_flat_colors(np.asarray(Image.open(sink))) == flat, image.mode


def test_pale_and_dark_photos_are_not_flat() -> None:
    rng, (y, x) = np.random.default_rng(0), np.mgrid[0:200, 0:200]
    pale = np.full((200, 200), 255.0)
    inside = ((x - 100) / 75) ** 2 + ((y - 100) / 55) ** 2 < 1
    pale[inside] = (252 - 30 * np.hypot((x - 100) / 75, (y - 100) / 55) + rng.normal(0, 3, (200, 200)))[inside]
    pale[99:101, 60:140] = 60  # a strap
    sky = rng.normal(4, 2, (200, 200))
    for row, column in rng.integers(2, 196, (40, 2)):
        sky[row : row + 2, column : column + 2] = rng.integers(140, 255)
    for levels in (pale, sky):
        gray = np.clip(levels, 0, 255).astype(np.uint8)
        assert not has_flat_colors(np.repeat(gray[:, :, None], 3, axis=2))


def test_soft_masks_are_flat() -> None:
    for radius in (1, 2, 4):
        soft = mask(200, 200).filter(ImageFilter.GaussianBlur(radius))
        assert has_flat_colors(np.asarray(soft)), radius
