"""Agreement on 100 real photos with scikit-image, torchmetrics, SciPy and the published heads of LPIPS."""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio as psnr
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from pipelines.evaluation.metrics import fid, measure_pairs
from pipelines.evaluation.metrics.networks import load_metric_networks
from tests.evaluation.metric_references import (
    BORDER_PX,
    GAUSSIAN,
    UNIFORM,
    cut,
    frechet_distance,
    lpips,
    map_ssim,
    map_uniform_ssim,
    scalar_ssim,
)
from tests.evaluation.test_pair_metrics import SSIM_TOLERANCE, Pairs
from tests.weights import REAL, real_weights

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.thorough,
    pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA names no folder of real photos"),
]
EXACT = pytest.mark.parametrize("exact", [True, False])
NUM_PHOTOS = 100
ERRORS = ["psnr_image", "psnr_hole", "mse_image", "l1_image", "l1_hole", "l1_gray_image"]


@cache
def read_pairs(side_px: int) -> Pairs:
    """The middle squares of 100 photos with a brush each, filled by Telea."""
    pairs = []
    for number, path in enumerate(sorted(Path(os.environ["LACUNA_DATA"]).glob("bsds500/*/*.jpg"))[:NUM_PHOTOS]):
        pixels = np.asarray(cv2.imread(str(path)))[..., ::-1]
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        image = cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_AREA)
        mask, rng = np.zeros((side_px, side_px), np.uint8), np.random.default_rng(number)
        points = rng.integers(0, side_px, (rng.integers(2, 7), 1, 2), np.int32)
        cv2.polylines(mask, [points], False, 1, int(side_px * rng.uniform(0.08, 0.3)))
        pairs.append((image, mask, cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)))
    assert len(pairs) == NUM_PHOTOS
    return Pairs(*(np.stack(part).astype(np.uint8) for part in zip(*pairs, strict=True)))


def to_double(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].double().contiguous()


@cache
def measure_by_scikit_image(side_px: int) -> dict[str, list[float]]:
    """Every form of SSIM of the pairs."""
    expected: dict[str, list[float]] = {}
    for image, mask, fill in zip(*read_pairs(side_px), strict=True):
        full = map_ssim(image, fill, GAUSSIAN)
        row = {
            "ssim_hole": full[mask > 0].mean(),
            "ssim_image": full.mean(),
            "ssim_valid_image": cut(full).mean(),
            "ssim_uniform_image": scalar_ssim(image, fill, UNIFORM),
        }
        for name, value in row.items():
            expected.setdefault(name, []).append(float(value))
    return expected


@EXACT
@pytest.mark.parametrize("side_px", [64, 256])
def test_similarity_is_that_of_scikit_image(side_px: int, exact: bool) -> None:
    expected = measure_by_scikit_image(side_px)
    scores = measure_pairs(*read_pairs(side_px), list(expected), exact=exact)
    for name, values in expected.items():
        assert scores[name].tolist() == pytest.approx(values, abs=SSIM_TOLERANCE[exact]), name


@EXACT
def test_similarity_of_the_cut_map_is_that_of_torchmetrics(exact: bool) -> None:
    pairs = read_pairs(64)
    scores = measure_pairs(*pairs, ["ssim_valid_image"], exact=exact)["ssim_valid_image"]
    fills, images = (torch.cat([to_double(picture) for picture in part]) for part in (pairs.fills, pairs.images))
    theirs = structural_similarity_index_measure(fills, images, data_range=255.0, return_full_image=True)[1]
    inner = theirs[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]  # its mirror leaves out the edge
    assert scores.tolist() == pytest.approx(inner.mean(dim=(1, 2, 3)).tolist(), abs=max(1e-6, SSIM_TOLERANCE[exact]))


@EXACT
def test_errors_are_those_of_torchmetrics_and_plain_sums(exact: bool) -> None:
    pairs = read_pairs(64)
    scores = measure_pairs(*pairs, ERRORS, exact=exact)
    for index, (image, mask, fill) in enumerate(zip(*pairs, strict=True)):
        error, hole = image.astype(np.float64) - fill, mask > 0
        theirs = peak_signal_noise_ratio(to_double(fill), to_double(image), data_range=255.0)
        assert scores["psnr_image"][index] == pytest.approx(float(theirs), abs=2e-6)  # its logarithm is float32
        assert scores["mse_image"][index] == pytest.approx(mean_squared_error(to_double(fill), to_double(image)).item())
        assert scores["psnr_image"][index] == pytest.approx(psnr(image, fill, data_range=255), abs=1e-9)
        hole_psnr = 20 * np.log10(255 / np.sqrt((error[hole] ** 2).mean()))
        assert scores["psnr_hole"][index] == pytest.approx(hole_psnr, abs=1e-9)
        assert scores["l1_image"][index] == pytest.approx(np.abs(error).mean() / 255 * 100, abs=1e-9)
        assert scores["l1_hole"][index] == pytest.approx(np.abs(error[hole]).mean() / 255 * 100, abs=1e-9)
        # As SPN's code: means of channels from 0 to 1, then their difference.
        gray = np.abs((image / 255).mean(axis=-1) - (fill / 255).mean(axis=-1)).mean() * 100
        assert scores["l1_gray_image"][index] == pytest.approx(gray, abs=1e-9)


def test_uniform_similarity_of_spn_is_that_of_sums_over_windows() -> None:
    pairs = read_pairs(64)
    scores = measure_pairs(*pairs, ["ssim_uniform_image"], exact=True)["ssim_uniform_image"]
    expected = [map_uniform_ssim(image, fill).mean() for image, _, fill in zip(*pairs, strict=True)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-10)


@REAL
@pytest.mark.parametrize(("backbone", "side_px"), [("alex", 64), ("vgg", 32)])
def test_lpips_is_that_of_the_published_heads(backbone: Literal["alex", "vgg"], side_px: int) -> None:
    pairs, names = read_pairs(side_px), [f"lpips_{backbone}_image", f"lpips_{backbone}_hole"]
    scores = measure_pairs(*pairs, names, load_metric_networks(names))
    weights = real_weights({"alex": "alexnet_features", "vgg": "vgg16_features"}[backbone])
    published = Path(str(files("torchmetrics.functional.image"))) / f"lpips_models/{backbone}.pth"
    heads = torch.load(published, map_location="cpu", weights_only=True)
    for index, (image, mask, fill) in enumerate(zip(*pairs, strict=True)):
        total, plane = lpips(backbone, weights, heads, image, fill)
        assert scores[names[0]][index] == pytest.approx(total, abs=1e-5)
        assert scores[names[1]][index] == pytest.approx(plane[mask > 0].mean(), abs=1e-5)


@REAL
def test_frechet_distance_of_given_features_is_that_of_scipy() -> None:
    pairs, networks = read_pairs(64), load_metric_networks(["fid_vgg16"])
    real, fake = (networks.compute_features("vgg16", pictures)[:, :80] for pictures in (pairs.images, pairs.fills))
    assert fid(real, fake) == pytest.approx(frechet_distance(real, fake), abs=1e-5)
    assert fid(real, fake) > 0.1
