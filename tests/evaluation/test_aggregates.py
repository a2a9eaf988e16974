"""Means of columns: the three forms differ as their names say, and none depends on the order of the pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.metrics import (
    average_bins,
    average_pairs,
    count_pixels,
    measure_pairs,
    pool_pixels,
)
from pipelines.records import UsageError
from tests.evaluation.test_pair_metrics import make_pairs

BINS = ["0.1-0.2", "0.1-0.2", "0.1-0.2", "0.5-0.6"]


def test_pairs_count_the_same_or_bins_do() -> None:
    column = np.array([1.0, 2.0, 6.0, 13.0])
    assert average_pairs(column) == 5.5
    assert average_bins(column, BINS) == 8.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.randoms())
def test_order_changes_no_digit(values: list[float], shuffler) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(values)))
    shuffler.shuffle(order)
    column, bins = np.array(values), np.array([number % 3 for number in range(len(values))])
    assert average_pairs(column) == average_pairs(column[order])
    assert average_bins(column, bins.tolist()) == average_bins(column[order], bins[order].tolist())


@pytest.mark.parametrize("region", ["hole", "image"])
def test_pooled_is_the_mean_over_the_pixels_of_all_pairs(region: str) -> None:
    images, masks, fills = make_pairs(0, count=5)
    names = [f"{name}_{region}" for name in ("psnr", "mse", "l1", "l1_gray")]
    columns, counts = measure_pairs(images, masks, fills, names), count_pixels(masks)
    error = (images.astype(float) - fills)[masks > 0 if region == "hole" else masks >= 0]
    assert pool_pixels(f"psnr_{region}", columns, counts) == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
    assert pool_pixels(f"l1_{region}", columns, counts) == pytest.approx(np.abs(error).mean() / 2.55)
    gray = np.abs(error.mean(axis=-1)).mean() / 2.55
    assert pool_pixels(f"l1_gray_{region}", columns, counts) == pytest.approx(gray)
    assert pool_pixels(f"psnr_{region}", columns, counts) != pytest.approx(average_pairs(columns[f"psnr_{region}"]))


def test_pooled_similarity_of_a_cut_map_counts_its_pixels() -> None:
    images, masks, fills = make_pairs(1, count=2)
    masks[:] = 0
    masks[0, :6, :7] = 1  # 2 pixels inside
    masks[1, 20, 10:20] = 1
    columns = measure_pairs(images, masks, fills, ["ssim_valid_hole"])
    one, two = columns["ssim_valid_hole"]
    assert pool_pixels("ssim_valid_hole", columns, count_pixels(masks)) == pytest.approx((2 * one + 10 * two) / 12)


def test_an_exact_fill_counts_with_no_error_in_the_pool() -> None:
    images, masks, _ = make_pairs(2, count=2)
    fills = images.copy()
    fills[0, masks[0] > 0] ^= 1
    columns = measure_pairs(images, masks, fills, ["psnr_hole", "mse_hole"])
    counts = count_pixels(masks)
    share = counts["hole"][0] / counts["hole"].sum()
    assert pool_pixels("psnr_hole", columns, counts) == pytest.approx(10 * np.log10(255**2 / share))


def test_what_has_no_mean_is_refused() -> None:
    images, masks, fills = make_pairs(3)
    columns, counts = measure_pairs(images, masks, fills, ["psnr_hole"]), count_pixels(masks)
    with pytest.raises(UsageError, match="pooled psnr_hole needs the column mse_hole"):
        pool_pixels("psnr_hole", columns, counts)
    for name in ("fid_vgg16", "lpips_alex_image", "nonsense"):
        with pytest.raises(UsageError, match=f"{name} is no mean over pixels"):
            pool_pixels(name, columns, counts)
    with pytest.raises(UsageError, match="there is no pair to average"):
        average_pairs(np.array([]))
    with pytest.raises(UsageError, match="there is no pair to average"):
        average_bins(np.array([]), [])
