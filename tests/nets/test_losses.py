"""Loss terms against numbers that a reader can work out by hand."""

import pytest
import torch
from torch import Tensor

from nets.losses import hinge_critic, hinge_generator, hole_weighted_l1, total_variation


def plane(*rows: list[float]) -> Tensor:
    """1 3 H W with the same rows in every channel."""
    return torch.tensor([[rows] * 3], dtype=torch.float32)


def mask_of(*rows: list[float]) -> Tensor:
    """1 1 H W."""
    return torch.tensor([[rows]], dtype=torch.float32)


IMAGE = plane([0, 0], [0, 0])
HOLE = mask_of([1, 0], [0, 0])


@pytest.mark.parametrize(
    ("predicted", "loss"),
    [
        (plane([0, 0], [0, 0]), 0.0),
        (plane([1, 0], [0, 0]), 5 * 0.25),
        (plane([0, 1], [0, 0]), 0.25),
        (plane([-1, 0], [0, -1]), 5 * 0.25 + 0.25),
        (plane([1, 1], [1, 1]), 5 * 0.25 + 0.75),
        (plane([0.5, 0], [0, 0]), 5 * 0.125),
    ],
)
def test_an_error_in_the_hole_counts_five_times(predicted: Tensor, loss: float) -> None:
    assert hole_weighted_l1(predicted, IMAGE, HOLE, 5.0).item() == pytest.approx(loss)


def test_l1_of_weight_one_is_the_mean_absolute_error() -> None:
    torch.manual_seed(0)
    predicted, image = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    loss = hole_weighted_l1(predicted, image, mask, 1.0)
    assert loss.item() == pytest.approx((predicted - image).abs().mean().item())


def test_l1_takes_a_fractional_mask() -> None:
    half = mask_of([0.5, 0.5], [0.5, 0.5])
    assert hole_weighted_l1(plane([1, 1], [1, 1]), IMAGE, half, 5.0).item() == pytest.approx(5 * 0.5 + 0.5)


def test_generator_is_praised_for_high_scores_of_both_critics() -> None:
    scores = [torch.tensor([1.0, 3.0]), torch.tensor([[10.0]])]
    assert hinge_generator(scores).item() == -12.0


@pytest.mark.parametrize(
    ("real", "fake", "loss"),
    [
        ([2.0], [-2.0], 0.0),
        ([1.0], [-1.0], 0.0),
        ([0.0], [0.0], 2.0),
        ([-1.0], [1.0], 4.0),
        ([1.0, 0.0], [-1.0, -1.0], 0.5),
        ([5.0, 0.0], [-5.0, 0.0], 1.0),
    ],
)
def test_critic_pays_for_scores_within_its_margin(real: list[float], fake: list[float], loss: float) -> None:
    assert hinge_critic([torch.tensor(real)], [torch.tensor(fake)]).item() == loss


def test_losses_of_the_two_critics_are_summed_whatever_their_sizes() -> None:
    real, fake = [torch.zeros(4), torch.ones(9)], [torch.zeros(4), torch.zeros(9)]
    assert hinge_critic(real, fake).item() == 2.0 + 1.0


def test_critics_without_counterparts_are_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        hinge_critic([torch.zeros(1), torch.zeros(1)], [torch.zeros(1)])


@pytest.mark.parametrize(
    ("image", "loss"),
    [
        (plane([7, 7], [7, 7]), 0.0),
        (plane([0, 1], [0, 1]), 1.0),
        (plane([0, 0], [2, 2]), 2.0),
        (plane([0, 1], [1, 2]), 2.0),
        (plane([0, 3, 0], [0, 3, 0]), 3.0),
        (plane([0, -1], [0, 0]), 0.5 + 0.5),
    ],
)
def test_total_variation_is_the_mean_step_down_and_across(image: Tensor, loss: float) -> None:
    assert total_variation(image).item() == pytest.approx(loss)


def test_every_term_is_a_scalar_with_a_gradient() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    terms = [
        hole_weighted_l1(x, torch.zeros_like(x), torch.ones(2, 1, 8, 8), 5.0),
        hinge_generator([x, x]),
        hinge_critic([x], [-x]),
        total_variation(x),
    ]
    for term in terms:
        assert term.shape == ()
        (gradient,) = torch.autograd.grad(term, x, retain_graph=True)
        assert gradient.abs().sum() > 0
