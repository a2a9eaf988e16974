"""The critics of SPN: the authors' sizes, what is normalized, and what their scores depend on."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.spn.critics import MatchingCritic, PatchCritic


def list_convolutions(critic: nn.Module) -> list[nn.Conv2d]:
    return [m for m in critic.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(("kind", "count"), [(PatchCritic, 2_763_776), (MatchingCritic, 2_763_841)])
def test_critics_have_the_parameters_of_the_authors(kind: type[nn.Module], count: int) -> None:
    assert sum(p.numel() for p in kind().parameters()) == count


@torch.no_grad()
def test_scores_of_a_paper_sized_picture_are_30_by_30() -> None:
    picture = torch.rand(1, 3, 256, 256)
    assert PatchCritic()(picture).shape == (1, 1, 30, 30)
    scores, features = MatchingCritic()(picture)
    assert scores.shape == (1, 1, 30, 30)
    assert [tuple(f.shape[1:]) for f in features] == [(128, 64, 64), (256, 32, 32), (512, 31, 31)]


@torch.no_grad()
def test_the_patch_critic_is_its_five_convolutions() -> None:
    critic, picture = PatchCritic(4).eval(), torch.rand(2, 3, 32, 32)
    x = picture
    for number, (layer, stride) in enumerate(zip(list_convolutions(critic), (2, 2, 2, 1, 1), strict=True)):
        assert layer.bias is None
        x = F.conv2d(x, layer.weight, stride=stride, padding=1)
        x = torch.where(x > 0, x, 0.2 * x) if number < 4 else x
    assert torch.allclose(critic(picture), x, atol=1e-6)


@torch.no_grad()
def test_the_matching_critic_normalizes_within_and_has_biases_at_its_ends() -> None:
    critic, picture = MatchingCritic(4).eval(), torch.rand(2, 3, 32, 32)
    x, seen = picture, []
    for number, (layer, stride) in enumerate(zip(list_convolutions(critic), (2, 2, 2, 1, 1), strict=True)):
        assert (layer.bias is not None) == (number in (0, 4))
        x = F.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1)
        if 0 < number < 4:
            x = F.instance_norm(x)
        if number < 4:
            x = torch.where(x > 0, x, 0.2 * x)
            seen.append(x)
    scores, features = critic(picture)
    assert torch.allclose(scores, x, atol=1e-5)
    assert all(torch.allclose(f, s, atol=1e-5) for f, s in zip(features, seen[1:], strict=True))


@pytest.mark.parametrize(("kind", "normed"), [(PatchCritic, 5), (MatchingCritic, 3)])
def test_spectral_norms_come_near_to_one_with_use(kind: type[nn.Module], normed: int) -> None:
    critic, picture = kind(4), torch.rand(1, 3, 32, 32)
    for _ in range(30):
        critic(picture)
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in list_convolutions(critic)]
    assert sum(norm == pytest.approx(1.0, abs=0.05) for norm in norms) >= normed
    parametrized = [layer for layer in list_convolutions(critic) if hasattr(layer, "parametrizations")]
    assert len(parametrized) == normed


def compute_scores(critic: nn.Module, picture: Tensor) -> Tensor:
    judged = critic(picture)
    scores: Tensor = judged[0] if isinstance(judged, tuple) else judged
    return scores


@pytest.mark.parametrize("kind", [PatchCritic, MatchingCritic])
def test_every_parameter_gets_a_gradient(kind: type[nn.Module]) -> None:
    critic = kind(4)
    loss = compute_scores(critic, torch.rand(1, 3, 32, 32)).square().mean()
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, list(critic.parameters())))


@torch.no_grad()
@pytest.mark.parametrize("kind", [PatchCritic, MatchingCritic])
def test_samples_of_a_batch_do_not_see_each_other(kind: type[nn.Module]) -> None:
    critic, pictures = kind(4).eval(), torch.rand(3, 3, 32, 32)
    assert torch.allclose(compute_scores(critic, pictures)[1:2], compute_scores(critic, pictures[1:2]), atol=1e-5)
