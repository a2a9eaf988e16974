"""Distances of sets of features beside SciPy, double sums and the published code of the discriminative scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.svm import LinearSVC  # type: ignore[import-untyped]

from pipelines.evaluation.metrics import fid, ids, kid, measure_sets
from pipelines.records import UsageError
from tests.evaluation.metric_references import frechet_distance

Features = NDArray[np.float32]


def make_features(seed: int, count: int, width: int) -> tuple[Features, Features]:
    """Correlated features of photos and of their fills."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width))
    real = rng.normal(size=(count, width)) @ mix
    return real.astype(np.float32), (real * 0.9 + 0.3 * rng.normal(size=real.shape) + 0.1).astype(np.float32)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(40, 200), st.integers(2, 30))
def test_fid_is_that_of_scipy(seed: int, count: int, width: int) -> None:
    real, fake = make_features(seed, count, width)
    assert fid(real, fake) == pytest.approx(frechet_distance(real, fake), rel=1e-5, abs=1e-5)


def test_fid_of_fewer_pictures_than_features_is_exact_where_it_can_be_worked_out() -> None:
    # Two points each along one axis: Gaussians of one dimension, (m1 - m2)^2 + (s1 - s2)^2.
    real, fake = np.zeros((2, 300)), np.zeros((2, 300))
    real[:, 7], fake[:, 7] = (-1, 1), (1, 7)
    expected = 4.0**2 + (np.sqrt(2) - np.sqrt(18)) ** 2
    assert fid(real, fake) == pytest.approx(expected, rel=1e-12)


def test_sets_that_are_equal_but_for_order_have_no_distance() -> None:
    real, _ = make_features(0, 60, 8)
    assert fid(real, real[::-1]) == pytest.approx(0, abs=1e-8)
    assert kid(real, real[::-1]) < 0.05 * kid(real, real * 3)


def test_kid_is_the_unbiased_double_sum() -> None:
    real, fake = (x.astype(np.float64) for x in make_features(1, 12, 5))

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float((x @ y / 5 + 1) ** 3)

    within = sum(kernel(x[i], x[j]) / (12 * 11) for x in (real, fake) for i in range(12) for j in range(12) if i != j)
    across = sum(kernel(x, y) for x in real for y in fake) / 144
    assert kid(real, fake) == pytest.approx(within - 2 * across, rel=1e-12)


def test_kid_of_many_pictures_depends_on_its_seed_alone() -> None:
    real, fake = make_features(2, 1100, 4)
    one, again, other = (kid(real, fake, seed=seed) for seed in (3, 3, 4))
    assert one == again != other
    assert one == pytest.approx(kid(real[:1000], fake[:1000]), rel=0.3)


def test_discriminative_scores_are_those_of_the_published_code() -> None:
    real, fake = make_features(4, 150, 6)
    inputs, targets = np.concatenate([real, fake]), np.array([1] * 150 + [0] * 150)
    machine = LinearSVC(dual=False).fit(inputs, targets)
    scores = ids(real, fake)
    assert scores.unpaired == pytest.approx(1 - machine.score(inputs, targets))
    better = machine.decision_function(fake) > machine.decision_function(real)
    assert scores.paired == pytest.approx(better.mean())
    assert 0 < scores.paired < 1 > scores.unpaired > 0


def test_fills_far_from_photos_never_pass_for_real() -> None:
    real, fake = make_features(5, 50, 4)
    assert ids(real, fake + 1000) == (0, 0)


def test_scores_have_the_names_of_their_networks() -> None:
    one, two = make_features(6, 40, 5), make_features(7, 40, 3)
    names = ["fid_vgg16", "kid_inception", "p_ids_vgg16", "u_ids_vgg16"]
    scores = measure_sets(names, {"vgg16": one[0], "inception": two[0]}, {"vgg16": one[1], "inception": two[1]})
    assert scores == dict(zip(names, (fid(*one), kid(*two), *ids(*one)), strict=True))


def test_features_that_cannot_be_compared_are_refused() -> None:
    real, fake = make_features(8, 20, 4)
    spoiled = fake.copy()
    spoiled[13, 2] = np.nan
    with pytest.raises(UsageError, match="features of fills: those of pair 13 are not finite"):
        fid(real, spoiled)
    with pytest.raises(UsageError, match="the widths 4 and 3"):
        kid(real, fake[:, :3])
    with pytest.raises(UsageError, match="20 photos and 19 fills: p_ids needs a fill for each photo"):
        ids(real, fake[:19])
    with pytest.raises(UsageError, match=r"features of photos are \(1, 4\): give \(N, D\) of two or more"):
        fid(real[:1], fake)
    with pytest.raises(UsageError, match="fid_inception needs features of inception"):
        measure_sets(["fid_inception"], {"vgg16": real}, {"vgg16": fake})
    with pytest.raises(UsageError, match="'psnr_hole' is a metric of kind pair"):
        measure_sets(["psnr_hole"], {}, {})
