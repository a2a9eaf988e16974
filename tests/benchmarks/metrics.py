"""Metrics beside scikit-image and plain LPIPS on one core, by turns: `python -m tests.benchmarks.metrics`.

PSNR, SSIM and L1, in the hole and over the picture, beside scikit-image's SSIM alone: target 5 times as fast at 64 and
256 px, also where the whole picture differs. With LACUNA_WEIGHTS, LPIPS beside a plain module of the published layers,
one pair at a time, as the package lpips runs it.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from infra.weights import load_weights
from nets.lpips import LPIPS
from pipelines.evaluation.metrics import METRICS, measure_pairs
from pipelines.evaluation.metrics.networks import MetricNetworks, load_metric_networks

Levels = NDArray[np.uint8]
DATA = Path(os.environ.get("LACUNA_DATA", "data"))
NUM_PAIRS = {64: 64, 256: 16}
TURNS = 7


def read_pairs(side_px: int) -> tuple[Levels, Levels, Levels]:
    """Real photos, brush masks, and fills by Telea."""
    pairs = []
    for number, path in enumerate(sorted(DATA.glob("bsds500/*/*.jpg"))[: NUM_PAIRS[side_px]]):
        pixels = np.ascontiguousarray(np.asarray(cv2.imread(str(path)))[:321, :321, ::-1])
        image = cv2.resize(pixels, (side_px, side_px), interpolation=cv2.INTER_AREA)
        mask, rng = np.zeros((side_px, side_px), np.uint8), np.random.default_rng(number)
        points = rng.integers(0, side_px, (5, 1, 2), np.int32)
        cv2.polylines(mask, [points], False, 1, int(side_px * 0.15))
        pairs.append((image, mask, cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)))
    images, masks, fills = (np.stack(part).astype(np.uint8) for part in zip(*pairs, strict=True))
    return images, masks, fills


def by_turns(works: Sequence[Callable[[], object]], count: int) -> list[float]:
    """Milliseconds a pair of each work: the best of several passes in which they take turns."""
    best = [float("inf")] * len(works)
    for _ in range(TURNS):
        for number, work in enumerate(works):
            started = time.thread_time()
            work()
            best[number] = min(best[number], time.thread_time() - started)
    return [seconds / count * 1e3 for seconds in best]


def by_scikit_image(images: Levels, fills: Levels) -> list[float]:
    """Its scalar with the same window."""
    return [
        float(
            structural_similarity(
                image, fill, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
        )
        for image, fill in zip(images, fills, strict=True)
    ]  # fmt: skip


def compare_levels(side_px: int) -> None:
    """Two lines: fills that keep known pixels, and pictures that differ everywhere."""
    images, masks, fills = read_pairs(side_px)
    noise = np.random.default_rng(0).integers(-2, 3, images.shape)
    changed = np.clip(fills.astype(int) + noise, 0, 255).astype(np.uint8)
    for name, made in (("fills", fills), ("all pixels changed", changed)):
        ours, exact, theirs = by_turns(
            (
                lambda made=made: measure_pairs(images, masks, made, METRICS),  # type: ignore[misc]
                lambda made=made: measure_pairs(images, masks, made, METRICS, exact=True),  # type: ignore[misc]
                lambda made=made: by_scikit_image(images, made),  # type: ignore[misc]
            ),
            len(images),
        )
        print(
            f"metrics    {side_px:3} px, holes of {masks.mean():.0%}, {name}: {ours:.3f} ms a pair, float64 "
            f"{exact:.3f}; scikit-image's SSIM alone {theirs:.3f} ({theirs / ours:.1f}x, target 5x; "
            f"float64 {theirs / exact:.1f}x)"
        )


def compare_lpips(side_px: int, network: str, networks: MetricNetworks) -> None:
    """One line: the picture alone, and hole and picture, beside the module one pair at a time."""
    images, masks, fills = (part[:16] for part in read_pairs(side_px))
    features = "alexnet_features" if network == "lpips_alex" else "vgg16_features"
    weights = load_weights([features, f"{network}_v0.1"])
    plain = LPIPS("alex" if network == "lpips_alex" else "vgg", weights[features], weights[f"{network}_v0.1"]).eval()

    def run_plain() -> list[float]:
        tensors = [torch.from_numpy(part).permute(0, 3, 1, 2).float().contiguous() / 255 for part in (images, fills)]
        with torch.inference_mode():
            return [plain(one[None], two[None]).item() for one, two in zip(*tensors, strict=True)]

    names = [f"{network}_image"], [f"{network}_image", f"{network}_hole"]
    image, both, theirs = by_turns(
        (
            lambda: measure_pairs(images, masks, fills, names[0], networks),
            lambda: measure_pairs(images, masks, fills, names[1], networks),
            run_plain,
        ),
        len(images),
    )
    print(
        f"metrics    {side_px:3} px, {network}: {image:.1f} ms a pair, with the hole {both:.1f}; "
        f"plain, pair by pair {theirs:.1f} ({theirs / image:.2f}x)"
    )


def main() -> None:
    """All of it, a line each."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for side_px in NUM_PAIRS:
        compare_levels(side_px)
    if "LACUNA_WEIGHTS" not in os.environ:
        print("metrics    LACUNA_WEIGHTS names no folder of weights: LPIPS is left out")
        return
    networks = load_metric_networks(["lpips_alex_image", "lpips_vgg_image"])
    for side_px in NUM_PAIRS:
        for network in networks.modules:
            compare_lpips(side_px, network, networks)


if __name__ == "__main__":
    main()
