"""Distances of two sets of pictures by their features: FID, KID, and how well a linear classifier separates them.

In: features N D of the photos and of their fills, in the order of the pairs. Out: float64 numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.names import select_metrics
from pipelines.records import UsageError

Features = NDArray[np.floating[Any]]

_KID_SUBSETS: Final = 100
_KID_SUBSET_SIZE: Final = 1000


class DiscriminativeScores(NamedTuple):
    """Shares of 1: `paired`, of fills that look more real than their photo; `unpaired`, of wrong decisions."""

    paired: float
    unpaired: float


def measure_sets(
    names: Sequence[str], real: Mapping[str, Features], fake: Mapping[str, Features], seed: int = 0
) -> dict[str, float]:
    """Metrics of kind `set` by name, from features by the name of their network.

    Raises UsageError for unknown names, missing features, and a number that is not finite.
    """
    scores: dict[str, float] = {}
    decisions: dict[str, DiscriminativeScores] = {}
    for metric in select_metrics(list(names), "set"):
        network = str(metric.network)
        if network not in real or network not in fake:
            raise UsageError(f"{metric.name} needs features of {network}: compute them of photos and of fills")
        pair, kind = (real[network], fake[network]), metric.name.removesuffix(f"_{network}")
        if kind in {"p_ids", "u_ids"}:
            found = decisions.setdefault(network, ids(*pair)) if network not in decisions else decisions[network]
            scores[metric.name] = found.paired if kind == "p_ids" else found.unpaired
        else:
            scores[metric.name] = fid(*pair) if kind == "fid" else kid(*pair, seed)
    return scores


def fid(real: Features, fake: Features) -> float:
    """Fréchet distance of two Gaussians with the features' means and covariances (Heusel et al. 2017).

    With covariances A^T A and B^T B, the trace of the root of their product is the sum of the singular values of
    A B^T. So no root of a matrix is needed, and fewer pictures than features do no harm to its digits.
    """
    _check_features(real, fake)
    one, two = real.astype(np.float64), fake.astype(np.float64)
    gap = one.mean(axis=0) - two.mean(axis=0)
    first, second = _center(one), _center(two)
    shared = float(np.linalg.svd(first @ second.T, compute_uv=False).sum())
    return float(gap @ gap) + float(np.square(first).sum()) + float(np.square(second).sum()) - 2 * shared


def kid(real: Features, fake: Features, seed: int = 0) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018).

    Sets of up to 1,000 pictures count whole; else it is the mean over 100 subsets of 1,000, drawn with the seed.
    """
    _check_features(real, fake)
    one, two = real.astype(np.float64), fake.astype(np.float64)
    size = min(_KID_SUBSET_SIZE, len(one), len(two))
    if size == len(one) == len(two):
        return _compute_mmd(one, two)
    rng = np.random.RandomState(seed)
    subsets = ([x[rng.choice(len(x), size, replace=False)] for x in (one, two)] for _ in range(_KID_SUBSETS))
    return float(np.mean([_compute_mmd(*subset) for subset in subsets]))


def ids(real: Features, fake: Features) -> DiscriminativeScores:
    """Discriminative scores of a linear support vector machine (Zhao et al. 2021); row i of both is pair i."""
    from sklearn.svm import LinearSVC  # type: ignore[import-untyped]

    _check_features(real, fake)
    if len(real) != len(fake):
        raise UsageError(f"{len(real)} photos and {len(fake)} fills: p_ids needs a fill for each photo")
    inputs = np.concatenate([real, fake]).astype(np.float64)
    machine = LinearSVC(dual=False).fit(inputs, np.repeat([1, 0], len(real)))
    outputs = machine.decision_function(inputs)
    realness, fakeness = outputs[: len(real)], outputs[len(real) :]
    wrong = np.count_nonzero(realness <= 0) + np.count_nonzero(fakeness > 0)
    return DiscriminativeScores(float(np.mean(fakeness > realness)), float(wrong / len(inputs)))


def _check_features(real: Features, fake: Features) -> None:
    for name, features in (("photos", real), ("fills", fake)):
        if features.ndim != 2 or len(features) < 2:
            raise UsageError(f"features of {name} are {features.shape}: give (N, D) of two or more pictures")
        if len(wrong := np.flatnonzero(~np.isfinite(features).all(axis=1))):
            raise UsageError(f"features of {name}: those of pair {wrong[0]} are not finite: leave the pair out")
    if real.shape[1] != fake.shape[1]:
        raise UsageError(f"features have the widths {real.shape[1]} and {fake.shape[1]}: use one network for both")


def _center(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix R of at most D rows with R^T R the sample covariance of N D features."""
    centered = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centered, mode="r")) if len(centered) > centered.shape[1] else centered


def _compute_mmd(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    within = 0.0
    for features in (one, two):
        kernel, count = _kernel(features, features), len(features)
        within += float(kernel.sum() - np.trace(kernel)) / (count * (count - 1))
    return within - 2 * float(_kernel(one, two).mean())


def _kernel(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = one @ two.T
    kernel /= one.shape[1]
    kernel += 1
    cubic: NDArray[np.float64] = kernel * kernel  # a power takes ten times as long
    cubic *= kernel
    return cubic
