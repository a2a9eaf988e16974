"""The loss terms that SPN alone has, against numbers by hand, torch's own distributions and float64."""

import math
from typing import Literal

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from nets.losses import (
    cross_entropy_critic,
    cross_entropy_generator,
    gaussian_divergence,
    perceptual_diversity,
)


@pytest.mark.parametrize("score", [-30.0, -1.0, 0.0, 0.5, 8.0])
def test_cross_entropy_of_logits_is_that_of_a_sigmoid(score: float) -> None:
    fake, real = torch.full((2, 1, 3, 3), score), torch.full((2, 1, 3, 3), 2.0)
    chance = 1 / (1 + math.exp(-score))
    assert cross_entropy_generator(fake).item() == pytest.approx(-math.log(chance), rel=1e-5)
    judged = -math.log(1 / (1 + math.exp(-2.0))) - math.log(1 / (1 + math.exp(score)))
    assert cross_entropy_critic(real, fake).item() == pytest.approx(judged, rel=1e-5)


def test_cross_entropy_is_finite_where_the_sigmoid_is_not() -> None:
    sure = torch.tensor([200.0])
    assert cross_entropy_generator(-sure).item() == 200
    assert cross_entropy_critic(-sure, sure).item() == 400


@pytest.mark.parametrize("mode", ["paper", "code"])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (-0.7, 0.3)])
def test_gaussian_divergence_is_that_of_torch(mode: Literal["paper", "code"], mean: float, deviation: float) -> None:
    q, p = Normal(torch.tensor(mean).double(), torch.tensor(deviation).double()), Normal(0.0, 1.0)
    by_torch = kl_divergence(q, p) if mode == "paper" else kl_divergence(p, q)
    ours = gaussian_divergence(torch.full((2, 3), mean), torch.full((2, 3), deviation), mode)
    assert ours.item() == pytest.approx(by_torch.item(), rel=1e-5, abs=1e-6)


def test_gaussian_divergence_by_hand() -> None:
    mean, deviation = torch.tensor([1.0]), torch.tensor([2.0])
    assert gaussian_divergence(mean, deviation, "paper").item() == pytest.approx(0.5 * (1 + 4 - 1) - math.log(2))
    assert gaussian_divergence(mean, deviation, "code").item() == pytest.approx(math.log(2) + 2 / 8 - 0.5)


def test_diversity_inverts_distances_in_the_hole() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :] = 1
    one = {"fine": torch.zeros(1, 2, 4, 4), "deep": torch.zeros(1, 3, 2, 2)}
    other = {"fine": torch.full((1, 2, 4, 4), 0.5), "deep": torch.full((1, 3, 2, 2), -2.0)}
    other["fine"][..., 3, :] = 77  # outside the hole
    paper = (1 / (0.5 * 16 + 1e-5) + 1 / (2 * 6 + 1e-5)) / 2  # norms over 2x8 and 3x2 elements in the hole
    assert perceptual_diversity(one, other, mask, "paper").item() == pytest.approx(paper)
    assert perceptual_diversity(one, other, mask, "code").item() == pytest.approx(1 / (0.5 + 2 + 1e-5))


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_fills_that_are_alike_pay_most_and_a_lost_hole_is_no_fault(mode: Literal["paper", "code"]) -> None:
    maps = {"deep": torch.rand(1, 3, 2, 2)}
    assert perceptual_diversity(maps, maps, torch.ones(1, 1, 4, 4), mode).item() == pytest.approx(1e5, rel=1e-3)
    assert math.isfinite(perceptual_diversity(maps, maps, torch.zeros(1, 1, 4, 4), mode).item())


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_diversity_agrees_with_float64(mode: Literal["paper", "code"]) -> None:
    torch.manual_seed(0)
    one, other = ({f"m{k}": torch.rand(2, 3, 8 >> k, 8 >> k) for k in range(3)} for _ in range(2))
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    by_hand = []
    for n in range(2):
        norms, distances, shares = [], [], []
        for k in range(3):
            hole = mask[n, ..., :: 1 << k, :: 1 << k].double()
            difference = one[f"m{k}"][n].double() * hole - other[f"m{k}"][n].double() * hole
            norms.append(torch.linalg.vector_norm(difference, ord=1).item())  # Eq. 14 prints this norm
            distances.append(difference.abs().mean().item())
            shares.append(hole.mean().item())
        paper = sum(1 / (norm + 1e-5) for norm in norms) / 3
        code = 1 / (sum(d / s for d, s in zip(distances, shares, strict=True)) + 1e-5)
        by_hand.append(paper if mode == "paper" else code)
    assert perceptual_diversity(one, other, mask, mode).item() == pytest.approx(sum(by_hand) / 2, rel=1e-5)
