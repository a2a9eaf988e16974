"""Metrics a second time, by other means: scikit-image, SciPy, plain sums and plain convolutions."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import sqrtm  # type: ignore[import-untyped]
from skimage.metrics import structural_similarity
from torch import Tensor

Picture = NDArray[np.uint8]
Layer = tuple[int, int, int]

GAUSSIAN: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
UNIFORM: dict[str, Any] = {"win_size": 11}
BORDER_PX = 5
ALEX: tuple[Layer, ...] = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""Index, stride and padding of convolutions; a pool comes before the second and the third."""
VGG = (2, 2, 3, 3, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scalar_ssim(image: Picture, fill: Picture, settings: Mapping[str, Any]) -> float:
    """The scalar of scikit-image, which cuts its border."""
    return float(structural_similarity(image, fill, channel_axis=-1, data_range=255, **settings))


def map_ssim(image: Picture, fill: Picture, settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """The whole map of scikit-image, HxWx3."""
    return np.asarray(structural_similarity(image, fill, channel_axis=-1, data_range=255, full=True, **settings)[1])


def map_uniform_ssim(image: Picture, fill: Picture) -> NDArray[np.float64]:
    """SPN's similarity by sums over all windows of 11x11 that fit, with sample covariance: (H-10)x(W-10)x3."""
    x, y = (np.lib.stride_tricks.sliding_window_view(p.astype(np.float64), (11, 11), (0, 1)) for p in (image, fill))
    x, y = (windows.reshape(*windows.shape[:3], 121) for windows in (x, y))
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    gap_x, gap_y = x - mean_x[..., None], y - mean_y[..., None]
    var_x, var_y, both = (gap_x**2).sum(-1) / 120, (gap_y**2).sum(-1) / 120, (gap_x * gap_y).sum(-1) / 120
    c1, c2 = 2.55**2, 7.65**2
    above = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return np.asarray(above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))


def cut(plane: NDArray[Any]) -> NDArray[Any]:
    """The plane without the border."""
    return plane[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def frechet_distance(real: NDArray[Any], fake: NDArray[Any]) -> float:
    """The published formula, by SciPy's root of a matrix."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    one, two = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    gap = real.mean(axis=0) - fake.mean(axis=0)
    return float(gap @ gap + np.trace(one) + np.trace(two) - 2 * np.trace(sqrtm(one @ two).real))


def lpips(
    backbone: Literal["alex", "vgg"],
    weights: Mapping[str, Tensor],
    heads: Mapping[str, Tensor],
    image: Picture,
    fill: Picture,
) -> tuple[float, NDArray[np.float64]]:
    """LPIPS of a pair in float64 and its map HxW, by plain convolutions."""
    total, plane = 0.0, torch.zeros(image.shape[:2], dtype=torch.float64)
    maps = [_list_maps(backbone, weights, picture) for picture in (image, fill)]
    for number, (one, two) in enumerate(zip(*maps, strict=True)):
        gap = one / one.norm(dim=1, keepdim=True) - two / two.norm(dim=1, keepdim=True)
        layer = (gap.square() * heads[f"lin{number}.model.1.weight"].double()).sum(1, keepdim=True)
        total += layer.mean().item()
        plane += F.interpolate(layer, size=plane.shape, mode="bilinear", align_corners=False)[0, 0]
    return total, plane.numpy()


def _list_maps(backbone: str, weights: Mapping[str, Tensor], picture: Picture) -> list[Tensor]:
    x = (torch.from_numpy(picture).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    x = x.permute(2, 0, 1)[None]
    maps = []
    if backbone == "alex":
        for number, (index, stride, padding) in enumerate(ALEX):
            x = F.max_pool2d(x, 3, 2) if number in {1, 2} else x
            x = _convolve(weights, index, x, stride, padding)
            maps.append(x)
        return maps
    index = 0
    for block, count in enumerate(VGG):
        x = F.max_pool2d(x, 2) if block else x
        for _ in range(count):
            x = _convolve(weights, index, x, 1, 1)
            index += 2
        index += 1
        maps.append(x)
    return maps


def _convolve(weights: Mapping[str, Tensor], index: int, x: Tensor, stride: int, padding: int) -> Tensor:
    weight, bias = (weights[f"features.{index}.{part}"].double() for part in ("weight", "bias"))
    return F.conv2d(x, weight, bias, stride, padding).relu()
