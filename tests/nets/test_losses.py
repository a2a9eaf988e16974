"""Loss terms against numbers that a reader can work out by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nets.losses import (
    feature_matching,
    gram,
    hinge_critic,
    hinge_generator,
    hole_weighted_l1,
    perceptual,
    total_variation_l2,
    style_l1,
    style_l2,
    total_variation,
)


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


@pytest.mark.parametrize(
    ("image", "loss"),
    [
        (plane([7, 7], [7, 7]), 0.0),
        (plane([0, 2], [0, 2]), 2 * 4.0),
        (plane([0, 0], [3, 3]), 2 * 9.0),
        (plane([0, -1], [0, 0]), 2 * (0.5 + 0.5)),
    ],
)
def test_squared_variation_is_twice_the_mean_squared_steps(image: Tensor, loss: float) -> None:
    assert total_variation_l2(image).item() == pytest.approx(loss)
    assert total_variation_l2(image.repeat(3, 1, 1, 1)).item() == pytest.approx(loss)


def maps(*values: float) -> dict[str, Tensor]:
    """A layer of 1x1 with a channel of each value, and a layer of 2x2 with one channel of their sum."""
    return {"near": torch.tensor(values).view(1, -1, 1, 1), "far": torch.full((1, 1, 2, 2), sum(values))}


@pytest.mark.parametrize(
    ("weights", "loss"),
    [({"near": 1.0, "far": 1.0}, 1.5 + 3.0), ({"near": 2.0, "far": 0.5}, 3.0 + 1.5), ({"far": 1.0}, 3.0)],
)
def test_perceptual_loss_is_the_weighted_sum_of_mean_differences(weights: dict[str, float], loss: float) -> None:
    assert perceptual(maps(1.0, 2.0), maps(0.0, 0.0), weights).item() == pytest.approx(loss)


def test_a_gram_matrix_holds_the_products_of_channels() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    by_hand = torch.tensor([[[1 + 4.0, 3 + 8.0], [3 + 8.0, 9 + 16.0]]]) / 4
    assert torch.equal(gram(features), by_hand)


def test_gram_matrices_of_a_batch_are_those_of_its_pictures() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 4, 5, 6)
    for one, matrix in zip(features.double(), gram(features), strict=True):
        by_hand = torch.einsum("chw,dhw->cd", one, one) / (4 * 5 * 6)
        assert torch.allclose(matrix.double(), by_hand, atol=1e-6)


def test_style_does_not_see_where_things_are() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    shuffled = x.flatten(2)[..., torch.randperm(36)].view_as(x)
    assert style_l1({"a": x}, {"a": shuffled}, {"a": 1.0}).item() == pytest.approx(0, abs=1e-6)
    assert perceptual({"a": x}, {"a": shuffled}, {"a": 1.0}).item() > 0.5


@pytest.mark.parametrize(("loss", "value"), [(style_l1, (0.5 + 1 + 1 + 2) / 4), (style_l2, (0.25 + 1 + 1 + 4) / 4)])
def test_style_loss_is_the_mean_difference_of_gram_matrices(loss: Any, value: float) -> None:
    one = maps(1.0, 2.0)  # gram 1/2 * (1 2; 2 4) beside nothing
    assert loss(one, maps(0.0, 0.0), {"near": 1.0}).item() == pytest.approx(value)
    assert loss(one, maps(0.0, 0.0), {"near": 3.0}).item() == pytest.approx(3 * value)


def test_feature_matching_is_the_mean_over_layers_of_mean_differences() -> None:
    of, target = [torch.ones(2, 3), torch.full((1, 4), 5.0)], [torch.zeros(2, 3), torch.full((1, 4), 3.0)]
    assert feature_matching(of, target).item() == pytest.approx((1 + 2) / 2)


def test_every_term_is_a_scalar_with_a_gradient() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    layer, nothing, once = {"a": x}, {"a": torch.zeros_like(x)}, {"a": 1.0}
    terms = [
        total_variation_l2(x),
        perceptual(layer, nothing, once),
        style_l1(layer, nothing, once),
        style_l2(layer, nothing, once),
        feature_matching([x], [torch.zeros_like(x)]),
        hole_weighted_l1(x, torch.zeros_like(x), torch.ones(2, 1, 8, 8), 5.0),
        hinge_generator([x, x]),
        hinge_critic([x], [-x]),
        total_variation(x),
    ]
    for term in terms:
        assert term.shape == ()
        (gradient,) = torch.autograd.grad(term, x, retain_graph=True)
        assert gradient.abs().sum() > 0
