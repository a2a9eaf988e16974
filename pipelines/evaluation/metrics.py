"""Metrics of one pair: a photo, its hole, and a fill of it.

In: uint8 HxWx3 and a mask HxW in {0, 1}. Out: numbers by name. The region stands in the name: `_hole` is over hole
pixels only, `_image` over all pixels of the inpainted picture, whose known pixels are the photo's.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

METRICS: Final = ("psnr_hole", "psnr_image", "ssim_hole", "ssim_image", "l1_hole", "l1_image")
HIGHER_IS_BETTER: Final = {name: not name.startswith("l1") for name in METRICS}

MIN_SIDE_PX: Final = 11
"""Least side of pictures that can be measured: the window of SSIM."""
_EXACT_MSE: Final = 1 / 12
"""Least mean squared error, that of rounding to whole levels: PSNR is capped at 58.9 dB, so no pair is infinite."""


def measure(image: NDArray[np.uint8], mask: NDArray[np.uint8], inpainted: NDArray[np.uint8]) -> dict[str, float]:
    """Metrics of a pair by name. PSNR in dB of 255, mean over R, G and B; L1 in percent of 255; SSIM in [-1, 1].

    SSIM is scikit-image's with the Gaussian window of Wang et al. 2004 (sigma 1.5, 11x11), its map averaged over the
    region.
    """
    error = image.astype(np.float64) - inpainted
    similarity = structural_similarity(
        image, inpainted, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )[1]  # fmt: skip
    hole = mask.astype(bool)
    return {
        "psnr_hole": _compute_psnr(error[hole]),
        "psnr_image": _compute_psnr(error),
        "ssim_hole": float(similarity[hole].mean()),
        "ssim_image": float(similarity.mean()),
        "l1_hole": float(np.abs(error[hole]).mean() / 2.55),
        "l1_image": float(np.abs(error).mean() / 2.55),
    }


def _compute_psnr(error: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / max(float(np.square(error).mean()), _EXACT_MSE)))
