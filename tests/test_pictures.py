"""Pictures for people: where each tile of a sheet lies, and the white hole."""

import io

import numpy as np
from PIL import Image

from pipelines.pictures import color_clusters, render_grid, whiten_hole


def tiles(levels: list[int], height: int = 2, width: int = 3) -> np.ndarray:
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def opened(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        return np.asarray(sheet)


def test_a_sheet_has_a_row_per_picture_and_a_column_per_title() -> None:
    sheet = opened(render_grid([("a", tiles([10, 20])), ("b", tiles([30, 40]))], enlarge=2))
    assert sheet.shape == (18 + 2 * (4 + 4) + 4, 4 + 2 * (6 + 4), 3)
    corners = [sheet[18 + row * 8, 4 + column * 10, 0] for row in range(2) for column in range(2)]
    assert corners == [10, 30, 20, 40]


def test_pixels_are_enlarged_without_blur() -> None:
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    picture[0, 0, 1] = 200
    sheet = opened(render_grid([("", picture)], enlarge=4))
    tile = sheet[18:26, 4:12, 0]
    assert np.array_equal(tile, np.kron([[0, 200], [0, 0]], np.ones((4, 4))))


def test_titles_are_written_and_the_rest_is_white() -> None:
    plain, titled = (opened(render_grid([(title, tiles([10], 40, 40))])) for title in ("", "photo"))
    assert (plain[:18] == 255).all()
    assert (titled[:18] < 128).any()
    assert np.array_equal(plain[18:], titled[18:])
    assert (plain[18:, :4] == 255).all()


def test_holes_are_white_and_the_rest_is_the_picture() -> None:
    images, masks = tiles([10, 20]), np.zeros((2, 2, 3), np.uint8)
    masks[1, 0, 2] = 1
    shown = whiten_hole(images, masks)
    assert shown.dtype == np.uint8
    assert (shown[1, 0, 2] == 255).all()
    assert np.array_equal(np.where(masks[..., None] == 1, images, shown), images)
    assert (images[1, 0, 2] == 20).all()


def test_pixels_of_one_cluster_have_one_colour_and_others_another() -> None:
    labels = np.kron(np.arange(8).reshape(2, 4), np.ones((5, 4), int))
    centres = np.random.default_rng(0).normal(size=(8, 16)) * 100
    features = np.moveaxis(centres[labels], 2, 0).astype(np.float32)
    features += np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    picture = color_clusters(features)
    assert picture.shape == (10, 16, 3)
    assert picture.dtype == np.uint8
    colours = [np.unique(picture[labels == label], axis=0) for label in range(8)]
    assert [len(c) for c in colours] == [1] * 8
    assert len({tuple(c[0]) for c in colours}) == 8


def test_the_largest_cluster_is_blue_and_the_smallest_red() -> None:
    values = np.repeat(np.random.default_rng(0).permutation(8) * 100.0, np.arange(8, 0, -1))
    picture = color_clusters(values.astype(np.float32).reshape(1, 4, 9)).reshape(-1, 3)
    assert (picture[:8] == (0, 0, 128)).all()
    assert (picture[-1] == (128, 0, 0)).all()
    assert len(np.unique(picture, axis=0)) == 8


def test_clusters_depend_on_the_seed_alone() -> None:
    features = np.random.default_rng(0).normal(size=(4, 12, 12)).astype(np.float32)
    first, other = color_clusters(features, seed=1), color_clusters(features, seed=2)
    assert np.array_equal(first, color_clusters(features, seed=1))
    assert not np.array_equal(first, other)


def test_fewer_clusters_give_fewer_colours() -> None:
    features = np.random.default_rng(0).normal(size=(4, 12, 12)).astype(np.float32)
    assert len(np.unique(color_clusters(features, num_clusters=3).reshape(-1, 3), axis=0)) == 3
