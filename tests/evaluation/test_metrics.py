"""Metrics against numbers that can be worked out by hand, and against scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from pipelines.evaluation.metrics import HIGHER_IS_BETTER, METRICS, measure

Picture = NDArray[np.uint8]

OFF_BY_ONE_DB = 20 * math.log10(255)
BORDER_PX = 5


def flat(level: int, side: int = 32) -> Picture:
    return np.full((side, side, 3), level, np.uint8)


def quarter(side: int = 32) -> Picture:
    """A hole that is the upper left quarter."""
    mask = np.zeros((side, side), np.uint8)
    mask[: side // 2, : side // 2] = 1
    return mask


def fill_hole(image: Picture, mask: Picture, fill: Picture) -> Picture:
    """The fill in the hole and the image elsewhere."""
    return np.where(mask[..., None] > 0, fill, image)


def noise(seed: int, side: int = 32) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_off_by_one_everywhere_in_the_hole_is_48_db() -> None:
    scores = measure(flat(100), quarter(), fill_hole(flat(100), quarter(), flat(101)))
    assert scores["psnr_hole"] == pytest.approx(48.1308, abs=1e-4) == pytest.approx(OFF_BY_ONE_DB)


def test_a_quarter_of_the_pixels_is_a_quarter_of_the_squared_error() -> None:
    scores = measure(flat(100), quarter(), fill_hole(flat(100), quarter(), flat(101)))
    assert scores["psnr_image"] == pytest.approx(OFF_BY_ONE_DB + 10 * math.log10(4))


def test_the_sign_of_the_error_does_not_matter_and_nothing_wraps_around() -> None:
    darker = measure(flat(100), quarter(), fill_hole(flat(100), quarter(), flat(90)))
    lighter = measure(flat(100), quarter(), fill_hole(flat(100), quarter(), flat(110)))
    assert darker["psnr_hole"] == lighter["psnr_hole"] == pytest.approx(OFF_BY_ONE_DB - 20)
    assert darker["l1_hole"] == lighter["l1_hole"]


def test_white_for_black_is_zero_db_and_a_hundred_percent() -> None:
    scores = measure(flat(0), quarter(), fill_hole(flat(0), quarter(), flat(255)))
    assert scores["psnr_hole"] == pytest.approx(0)
    assert scores["l1_hole"] == pytest.approx(100)
    assert scores["l1_image"] == pytest.approx(25)


def test_l1_is_in_percent_of_the_range() -> None:
    scores = measure(flat(100), quarter(), fill_hole(flat(100), quarter(), flat(151)))
    assert scores["l1_hole"] == pytest.approx(20)  # 51 of 255
    assert scores["l1_image"] == pytest.approx(5)


def test_psnr_is_the_mean_over_channels_of_squared_errors() -> None:
    fill = flat(100)
    fill[..., 1] = 103
    assert measure(flat(100), quarter(), fill)["psnr_hole"] == pytest.approx(OFF_BY_ONE_DB - 10 * math.log10(9 / 3))


def test_an_exact_fill_is_capped() -> None:
    scores = measure(noise(0), quarter(), noise(0))
    assert scores["psnr_hole"] == scores["psnr_image"] == pytest.approx(10 * math.log10(255**2 * 12))
    assert scores["psnr_hole"] == pytest.approx(58.92, abs=0.01)
    assert scores["l1_hole"] == scores["l1_image"] == 0


def test_ssim_of_equal_pictures_is_one() -> None:
    scores = measure(noise(1), quarter(), noise(1))
    assert scores["ssim_hole"] == scores["ssim_image"] == pytest.approx(1)


def test_ssim_of_two_flat_pictures_is_that_of_their_means() -> None:
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + constant) / (100**2 + 120**2 + constant)
    scores = measure(flat(100), np.ones((32, 32), np.uint8), flat(120))
    assert scores["ssim_hole"] == pytest.approx(expected, rel=1e-6)
    assert scores["ssim_image"] == pytest.approx(expected, rel=1e-6)


def test_ssim_in_the_hole_is_worse_than_over_the_picture_if_only_the_hole_is_wrong() -> None:
    scores = measure(noise(2), quarter(), fill_hole(noise(2), quarter(), noise(3)))
    assert scores["ssim_hole"] < 0.2
    assert scores["ssim_image"] > 0.7


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_picture_agrees_with_scikit_image(seed: int) -> None:
    image, everywhere = noise(seed), np.ones((32, 32), np.uint8)
    other = np.clip(image.astype(int) + noise(seed + 100) % 41 - 20, 0, 255).astype(np.uint8)
    scores = measure(image, everywhere, other)
    assert scores["psnr_image"] == pytest.approx(peak_signal_noise_ratio(image, other, data_range=255))
    assert scores["psnr_image"] == scores["psnr_hole"]
    assert scores["l1_image"] == pytest.approx(np.abs(image.astype(float) - other).mean() / 255 * 100)
    inside = np.zeros((32, 32), np.uint8)
    inside[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = 1  # scikit-image leaves half a window out at the border
    reference = structural_similarity(
        image, other, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert measure(image, inside, other)["ssim_hole"] == pytest.approx(float(reference), rel=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 1023))
def test_metrics_of_the_hole_look_at_the_hole_only(seed: int, holes: int) -> None:
    image, fill = noise(seed), noise(seed + 1)
    mask = (np.random.default_rng(seed).permutation(1024) < holes).astype(np.uint8).reshape(32, 32)
    scores = measure(image, mask, fill_hole(image, mask, fill))
    hole = mask.astype(bool)
    assert scores["l1_hole"] == pytest.approx(np.abs(image[hole].astype(float) - fill[hole]).mean() / 2.55)
    squares = float(mean_squared_error(image[hole], fill[hole]))
    assert scores["psnr_hole"] == pytest.approx(10 * math.log10(255**2 / max(squares, 1 / 12)))
    assert scores["l1_image"] == pytest.approx(scores["l1_hole"] * holes / 1024)


def test_every_metric_is_measured_and_knows_its_direction() -> None:
    scores = measure(noise(4), quarter(), noise(5))
    assert set(scores) == set(METRICS) == set(HIGHER_IS_BETTER)
    worse, better = (measure(flat(100), quarter(), flat(100 + n)) for n in (40, 4))
    for name in METRICS:
        assert (better[name] > worse[name]) == HIGHER_IS_BETTER[name], name
