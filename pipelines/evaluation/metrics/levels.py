"""Errors of levels: PSNR, squared and absolute error of one pair, from sums of whole numbers.

In: uint8 HxWx3 and a mask HxW in {0, 1}. Out: numbers by name, exact to float64.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]

_EXACT_MSE: Final = 1 / 12
"""Least mean squared error, that of rounding to whole levels: PSNR is capped at 58.9 dB, so no pair is infinite."""


def compute_psnr(mse: float) -> float:
    """PSNR in dB of 255 for a mean squared error in squared levels."""
    return float(10 * np.log10(255**2 / max(mse, _EXACT_MSE)))


def measure_levels(image: Levels, mask: Levels, fill: Levels) -> dict[str, float]:
    """PSNR in dB, mean squared error in squared levels and L1 in percent of 255, mean over R, G and B."""
    error = cv2.absdiff(image, fill)
    found: dict[str, float] = {}
    for region, part, pixels in (
        ("hole", cv2.copyTo(error, mask), cv2.countNonZero(mask)),
        ("image", error, mask.size),
    ):
        mse = cv2.norm(part, cv2.NORM_L2SQR) / (3 * pixels)
        found |= {f"psnr_{region}": compute_psnr(mse), f"mse_{region}": mse}
        found[f"l1_{region}"] = cv2.norm(part, cv2.NORM_L1) / (3 * pixels) / 2.55
    return found


def measure_gray_levels(image: Levels, mask: Levels, fill: Levels) -> dict[str, float]:
    """L1 in percent of 255 of the mean over R, G and B: channels are averaged before the difference (SPN)."""
    error = np.abs(np.subtract(image, fill, dtype=np.int16).sum(axis=-1, dtype=np.int16))
    hole = int(error.sum(where=mask.astype(bool), dtype=np.int64))
    return {
        "l1_gray_hole": hole / (3 * cv2.countNonZero(mask)) / 2.55,
        "l1_gray_image": int(error.sum(dtype=np.int64)) / (3 * mask.size) / 2.55,
    }


def count_pixels(masks: Levels, border_px: int) -> dict[str, NDArray[np.int64]]:
    """Pixels of each region of masks NHW, by the region's name, N each; `valid` ones lie inside the border."""
    inner = masks[:, border_px:-border_px, border_px:-border_px]
    return {
        "hole": masks.sum(axis=(1, 2), dtype=np.int64),
        "image": np.full(len(masks), masks[0].size, np.int64),
        "valid_hole": inner.sum(axis=(1, 2), dtype=np.int64),
        "valid_image": np.full(len(masks), inner[0].size, np.int64),
    }
