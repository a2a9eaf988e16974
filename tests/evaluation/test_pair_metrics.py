"""Metrics of many pairs at once beside scikit-image and plain sums, and what is refused."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio

from pipelines.evaluation.metrics import MIN_SIDE_PX, REGISTRY, count_pixels, measure, measure_pairs
from pipelines.records import UsageError
from tests.evaluation.metric_references import GAUSSIAN, UNIFORM, cut, map_ssim, map_uniform_ssim, scalar_ssim

PLAIN = [name for name, metric in REGISTRY.items() if metric.kind == "pair" and metric.network is None]
SSIM_TOLERANCE = {True: 1e-10, False: 5e-6}
EXACT = pytest.mark.parametrize("exact", [True, False])


class Pairs(NamedTuple):
    """Photos NHWC, masks NHW and fills NHWC."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    fills: NDArray[np.uint8]

    def select(self, which: list[int]) -> "Pairs":
        """Pairs of these numbers, in this order."""
        return Pairs(self.images[which], self.masks[which], self.fills[which])


def make_pairs(seed: int, height: int = 40, width: int = 50, count: int = 3, *, composed: bool = True) -> Pairs:
    """Smooth pictures of strong contrast with rectangular holes, filled by something near."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 127.5 + 127.5 * np.sin(np.multiply.outer(rng.uniform(0.02, 0.6, (count, 3)), x + 2 * y))
    images = np.clip(waves.transpose(0, 2, 3, 1) + rng.normal(0, 3, (count, height, width, 3)), 0, 255).astype(np.uint8)
    fills = np.clip(images + rng.normal(0, rng.uniform(1, 60), images.shape), 0, 255).astype(np.uint8)
    masks = np.zeros((count, height, width), np.uint8)
    for mask in masks:
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        mask[top : top + rng.integers(8, height), left : left + rng.integers(8, width - 1)] = 1
    return Pairs(images, masks, np.where(masks[..., None] > 0, fills, images) if composed else fills)


def cut_hole(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return cut(mask).astype(bool)


@EXACT
@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(11, 140), st.integers(11, 140), st.booleans())
def test_every_form_of_ssim_is_that_of_scikit_image(
    exact: bool, seed: int, height: int, width: int, composed: bool
) -> None:
    pairs = make_pairs(seed, max(height, 20), max(width, 20), 1, composed=composed)
    pairs.masks[0, pairs.masks.shape[1] // 2, pairs.masks.shape[2] // 2] = 1  # inside the cut border
    image, mask, fill = (part[0] for part in pairs)
    names = [name for name in PLAIN if name.startswith("ssim")]
    scores = {name: column[0] for name, column in measure_pairs(*pairs, names, exact=exact).items()}
    full, uniform = map_ssim(image, fill, GAUSSIAN), map_ssim(image, fill, UNIFORM)
    expected = {
        "ssim_hole": full[mask > 0].mean(),
        "ssim_image": full.mean(),
        "ssim_valid_hole": cut(full)[cut_hole(mask)].mean(),
        "ssim_valid_image": scalar_ssim(image, fill, GAUSSIAN),
        "ssim_uniform_hole": cut(uniform)[cut_hole(mask)].mean(),
        "ssim_uniform_image": scalar_ssim(image, fill, UNIFORM),
    }
    assert scores == pytest.approx(expected, abs=SSIM_TOLERANCE[exact])


@EXACT
def test_the_smallest_hole_has_all_digits(exact: bool) -> None:
    image = np.full((80, 80, 3), 3, np.uint8)
    image[:, 60:] = 250  # so the hole is far from its tile's mean
    fill = image.copy()
    fill[30:50, 30:50] += np.random.default_rng(0).integers(0, 21, (20, 20, 3), np.uint8)
    images, fills = (np.stack([picture] * 20) for picture in (image, fill))
    masks = np.zeros((20, 80, 80), np.uint8)
    masks[range(20), range(30, 50), 40] = 1
    expected = map_ssim(image, fill, GAUSSIAN)[30:50, 40].mean(axis=-1).tolist()
    scores = measure_pairs(images, masks, fills, ["ssim_hole"], exact=exact)["ssim_hole"]
    assert scores.tolist() == pytest.approx(expected, abs=SSIM_TOLERANCE[exact])


def test_uniform_ssim_is_that_of_sums_over_windows() -> None:
    pairs = make_pairs(5)
    scores = measure_pairs(*pairs, ["ssim_uniform_image", "ssim_uniform_hole"], exact=True)
    for index, (image, mask, fill) in enumerate(zip(*pairs, strict=True)):
        similarity = map_uniform_ssim(image, fill)
        assert scores["ssim_uniform_image"][index] == pytest.approx(similarity.mean(), abs=1e-10)
        assert scores["ssim_uniform_hole"][index] == pytest.approx(similarity[cut_hole(mask)].mean(), abs=1e-10)


@EXACT
@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_psnr_and_l1_are_exact(exact: bool, seed: int) -> None:
    pairs = make_pairs(seed)
    scores = measure_pairs(*pairs, [name for name in PLAIN if not name.startswith("ssim")], exact=exact)
    for index, (image, mask, fill) in enumerate(zip(*pairs, strict=True)):
        error = image.astype(float) - fill
        for region, part in (("hole", error[mask > 0]), ("image", error.reshape(-1, 3))):
            expected = {
                f"mse_{region}": (part**2).mean(),
                f"l1_{region}": np.abs(part).mean() / 2.55,
                f"l1_gray_{region}": np.abs(part.mean(axis=-1)).mean() / 2.55,
            }
            assert {n: scores[n][index] for n in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)
        reference = min(float(peak_signal_noise_ratio(image, fill, data_range=255)), 10 * np.log10(255**2 * 12))
        assert scores["psnr_image"][index] == pytest.approx(reference, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_a_pair_has_the_same_digits_among_any_others(seed: int, order: list[int]) -> None:
    pairs = make_pairs(seed, count=4)
    together, turned = measure_pairs(*pairs, PLAIN[:6]), measure_pairs(*pairs.select(order), PLAIN[:6])
    for name, column in together.items():
        assert column.dtype == np.float64
        assert column[order].tolist() == turned[name].tolist()
        assert column[:1].tolist() == measure_pairs(*pairs.select([0]), PLAIN[:6])[name].tolist()


def test_the_metrics_of_a_scorecard_are_the_exact_ones() -> None:
    pairs = make_pairs(8)
    columns = measure_pairs(*pairs, exact=True)
    for index in range(3):
        assert measure(*(part[index] for part in pairs)) == {name: column[index] for name, column in columns.items()}


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_a_larger_error_is_worse_by_every_metric(seed: int) -> None:
    images, masks, _ = make_pairs(seed, count=1)
    masks[:, 10:30, 10:30] = 1
    near, far = (np.where(masks[..., None] > 0, images // k, images).astype(np.uint8) for k in (2, 5))
    small, large = (measure_pairs(images, masks, fill, PLAIN) for fill in (near, far))
    for name in PLAIN:
        assert (small[name][0] > large[name][0]) == REGISTRY[name].higher_is_better, name


def test_counts_are_those_of_the_regions() -> None:
    masks = np.zeros((2, 20, 30), np.uint8)
    masks[0, :6, :7] = masks[1, 10, 10:20] = 1
    counts = {region: column.tolist() for region, column in count_pixels(masks).items()}
    assert counts == {"hole": [42, 10], "image": [600, 600], "valid_hole": [2, 10], "valid_image": [200, 200]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": lambda m: m * 0}, "mask 0 has no hole: leave the pair out"),
        ({"masks": lambda m: m * 0 + 1}, "mask 0 has no known pixel: leave the pair out"),
        ({"masks": lambda m: m * 255}, "mask 0 holds the value 255: give 1 in the hole"),
        ({"masks": lambda m: m.astype(float)}, "masks are float64"),
        ({"masks": lambda m: m[:, 1:]}, "give uint8 (3, 40, 50), a mask for each photo"),
        ({"fills": lambda f: f / 255}, "fills are float64 (3, 40, 50, 3): give uint8 levels"),
        ({"fills": lambda f: f[..., 0]}, "fills are uint8 (3, 40, 50): give uint8 levels in the shape (N, H, W, 3)"),
        ({"fills": lambda f: f[:2]}, "photos are (3, 40, 50, 3) and fills (2, 40, 50, 3)"),
        ({"images": lambda i: i[:, :10]}, f"photos are 50x10 px: height and width must be at least {MIN_SIDE_PX}"),
        ({"images": lambda i: i[:0]}, "photos are empty: give one or more"),
        ({"names": lambda _: ["psnr"]}, "'psnr' is no metric: use one or more of psnr_hole"),
        ({"names": lambda _: ["fid_vgg16"]}, "'fid_vgg16' is a metric of kind set: use one or more of psnr_hole"),
        ({"names": lambda _: []}, "no metric is named"),
        ({"names": lambda _: ["lpips_alex_hole"]}, "lpips_alex is not loaded: pass what load_metric_networks returns"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict, message: str) -> None:  # type: ignore[type-arg]
    given_pairs = make_pairs(0)._asdict() | {"names": ["psnr_hole"]}
    given_pairs |= {name: alter(given_pairs[name]) for name, alter in change.items()}
    with pytest.raises(UsageError) as refusal:
        measure_pairs(**given_pairs)
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["ssim_valid_hole", "ssim_uniform_hole"])
def test_a_number_that_is_not_finite_names_its_pair(name: str) -> None:
    images, masks, fills = make_pairs(1)
    masks[:, 20, 20] = 1
    masks[1] = 0
    masks[1, :5] = 1
    with pytest.raises(UsageError, match=rf"{name} of pair 1 is nan \(its hole lies in the border"):
        measure_pairs(images, masks, fills, ["ssim_hole", name])
