"""Metrics by name: the registry that says for each its region, unit, direction and method.

The region stands in the name: `_hole` is over hole pixels only, `_image` over all pixels. `valid` cuts five pixels off
at each border. A name that ends with a feature network's is a metric of two sets of pictures.
"""

from dataclasses import dataclass
from typing import Final, Literal

from pipelines.records import UsageError

Kind = Literal["pair", "set", "fills"]
Region = Literal["hole", "image", "valid_hole", "valid_image"]

FEATURE_NETWORKS: Final = ("inception", "vgg16")
LPIPS_NETWORKS: Final = ("lpips_alex", "lpips_vgg")
MIN_SIDE_PX: Final = 11
"""Least side of pictures that can be measured: the window of SSIM."""


@dataclass(frozen=True)
class Metric:
    """Meaning of the numbers of one name."""

    name: str
    higher_is_better: bool | None
    """None for the diversity of fills, which is no quality."""
    unit: str
    description: str
    method: str
    """Function or network that computes it."""
    kind: Kind = "pair"
    """Of a pair, of a set of real and a set of filled pictures, or of several fills of each pair."""
    region: Region = "image"

    @property
    def network(self) -> str | None:
        """Network that it needs, if any."""
        return self.method if self.method in (*FEATURE_NETWORKS, *LPIPS_NETWORKS) else None


_LEVELS: Final = (
    ("psnr", True, "dB", "Peak signal-to-noise ratio of 255, over R, G and B", "levels"),
    ("mse", False, "squared levels", "Mean squared error, over R, G and B", "levels"),
    ("l1", False, "% of 255", "Mean absolute error, over R, G and B", "levels"),
    ("l1_gray", False, "% of 255", "Mean absolute error of the mean of R, G and B", "gray_levels"),
    ("ssim", True, "1", "Structural similarity, Gaussian window 11x11, sigma 1.5, full map", "gaussian_ssim"),
    ("lpips_alex", False, "1", "LPIPS v0.1 over AlexNet", "lpips_alex"),
    ("lpips_vgg", False, "1", "LPIPS v0.1 over VGG-16", "lpips_vgg"),
)
_CUT: Final = (
    ("ssim_valid", "Structural similarity, Gaussian window 11x11, sigma 1.5, border cut", "gaussian_ssim"),
    ("ssim_uniform", "Structural similarity, uniform window 11x11, border cut", "uniform_ssim"),
)
_SETS: Final = (
    ("fid", False, "1", "Fréchet distance of features"),
    ("kid", False, "1", "Squared maximum mean discrepancy of features, cubic kernel"),
    ("p_ids", True, "share of 1", "Paired inception discriminative score"),
    ("u_ids", True, "share of 1", "Unpaired inception discriminative score"),
)
_PLACES: Final[tuple[tuple[Region, Region], ...]] = (("hole", "valid_hole"), ("image", "valid_image"))


def _list_metrics() -> list[Metric]:
    metrics: list[Metric] = []
    for region, cut in _PLACES:
        where = "hole" if region == "hole" else "whole picture"
        metrics += [Metric(f"{n}_{region}", up, u, f"{d}, {where}", m, region=region) for n, up, u, d, m in _LEVELS]
        metrics += [Metric(f"{n}_{region}", True, "1", f"{d}, {where}", m, region=cut) for n, d, m in _CUT]
    for network in FEATURE_NETWORKS:
        metrics += [Metric(f"{n}_{network}", up, u, f"{d} of {network}", network, "set") for n, up, u, d in _SETS]
    diversity = "of two fills of a pair, mean over all twos"
    metrics.append(Metric("diversity_lpips_alex", None, "1", f"LPIPS {diversity}", "lpips_alex", "fills"))
    metrics.append(Metric("diversity_l1", None, "% of 255", f"Mean absolute difference {diversity}", "levels", "fills"))
    return metrics


REGISTRY: Final = {metric.name: metric for metric in _list_metrics()}
METRICS: Final = ("psnr_hole", "psnr_image", "ssim_hole", "ssim_image", "l1_hole", "l1_image")
"""Metrics of every scorecard."""
HIGHER_IS_BETTER: Final = {name: bool(REGISTRY[name].higher_is_better) for name in METRICS}


def select_metrics(names: tuple[str, ...] | list[str], kind: Kind) -> list[Metric]:
    """Metrics of these names and of this kind; raises UsageError for another name, and for none."""
    known = [name for name, metric in REGISTRY.items() if metric.kind == kind]
    if not names:
        raise UsageError(f"no metric is named: use one or more of {', '.join(known)}")
    for name in names:
        if name not in known:
            found = f"is a metric of kind {REGISTRY[name].kind}" if name in REGISTRY else "is no metric"
            raise UsageError(f"{name!r} {found}: use one or more of {', '.join(known)}")
    return [REGISTRY[name] for name in names]
