"""DeepGIN's two patch critics: their size, their maps, and what their scores depend on."""

import pytest
import torch
from torch import Tensor

from nets.critics import TwoScalePatchCritic


def make_pair(size_px: int, number: int = 1) -> tuple[Tensor, Tensor]:
    """Condition and picture of this size."""
    return torch.rand(number, 3, size_px, size_px), torch.rand(number, 3, size_px, size_px)


def test_both_critics_have_the_parameters_of_the_paper() -> None:
    critic = TwoScalePatchCritic(64)
    assert sum(p.numel() for p in critic.parameters() if p.requires_grad) == 3_421_568


def test_maps_of_a_paper_sized_picture_are_67_and_35() -> None:
    with torch.no_grad():
        shapes = [tuple(scores.shape) for scores in TwoScalePatchCritic(64)(*make_pair(256))]
    assert shapes == [(1, 256, 67, 67), (1, 256, 35, 35)]


@pytest.mark.parametrize("size_px", [32, 64, 128])
def test_maps_are_three_larger_than_a_quarter_and_an_eighth(size_px: int) -> None:
    full, half = TwoScalePatchCritic(4)(*make_pair(size_px, 2))
    assert full.shape == (2, 16, size_px // 4 + 3, size_px // 4 + 3)
    assert half.shape == (2, 16, size_px // 8 + 3, size_px // 8 + 3)
    assert torch.isfinite(full).all()
    assert torch.isfinite(half).all()


def test_every_parameter_gets_a_gradient() -> None:
    critic = TwoScalePatchCritic(4)
    total = sum((scores.square().mean() for scores in critic(*make_pair(32))), start=torch.zeros(()))
    gradients = torch.autograd.grad(total, list(critic.parameters()))
    assert all(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("which", [0, 1])
def test_scores_depend_on_condition_and_picture(which: int) -> None:
    critic, inputs = TwoScalePatchCritic(4).eval(), list(make_pair(32))
    before = critic(*inputs)
    inputs[which] = 1 - inputs[which]
    assert all(not torch.equal(b, a) for b, a in zip(before, critic(*inputs), strict=True))


def test_the_second_critic_sees_means_of_three_by_three_pixels() -> None:
    critic, (condition, picture) = TwoScalePatchCritic(4).eval(), make_pair(32)
    stripes = torch.tensor([1.0, -1.0, 0.0]).repeat(11)[:32]  # three neighbors sum up to nothing
    (full, half), (striped_full, striped_half) = critic(condition, picture), critic(condition, picture + stripes)
    assert torch.allclose(half, striped_half, atol=1e-5)
    assert not torch.allclose(full, striped_full, atol=1e-2)


def test_spectral_norms_come_near_to_one_with_use() -> None:
    critic, inputs = TwoScalePatchCritic(4), make_pair(32)
    for _ in range(30):
        critic(*inputs)
    weights = [m.weight.flatten(1) for m in critic.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(weights) == 8
    for weight in weights:
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=0.05)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    critic, (condition, picture) = TwoScalePatchCritic(4).eval(), make_pair(32, 3)
    together = critic(condition, picture)
    alone = critic(condition[1:2], picture[1:2])
    assert all(torch.allclose(t[1:2], a, atol=1e-5) for t, a in zip(together, alone, strict=True))
