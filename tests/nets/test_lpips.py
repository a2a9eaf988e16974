"""LPIPS: laws of a distance, a reckoning by hand, and the published numbers where real weights are at hand."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from nets.features import AlexNetFeatures
from nets.lpips import LPIPS
from tests.weights import REAL, random_alexnet, random_heads, random_vgg, real_weights

Backbone = Literal["alex", "vgg"]
BACKBONES = pytest.mark.parametrize("backbone", ["alex", "vgg"])
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
GOLDEN = {"alex": 0.5934455935616607, "vgg": 0.8229417845740681}
"""The two pictures below by the package lpips 0.1.4 in float64, on the same backbones."""


def build_random_lpips(backbone: Backbone) -> LPIPS:
    features = random_alexnet() if backbone == "alex" else random_vgg(16)
    return LPIPS(backbone, features, random_heads(*CHANNELS[backbone]))


def load_real_lpips(backbone: Backbone) -> LPIPS:
    features = {"alex": "alexnet_features", "vgg": "vgg16_features"}[backbone]
    return LPIPS(backbone, real_weights(features), real_weights(f"lpips_{backbone}_v0.1"))


def make_ramp_and_waves() -> tuple[Tensor, Tensor]:
    """Two pictures 1 3 64 64 that anybody can make again."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = torch.stack([x / 63, y / 63, (x + y) / 126])[None]
    waves = torch.stack([torch.sin(x / 5) / 2 + 0.5, torch.cos(y / 7) / 2 + 0.5, x * y / 3969])[None]
    return ramp, waves


def make_noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("backbone", "count"), [("alex", 1_152), ("vgg", 1_472)])
def test_heads_have_the_weights_of_the_published_files(backbone: Backbone, count: int) -> None:
    assert sum(p.numel() for p in build_random_lpips(backbone).heads.parameters()) == count


@BACKBONES
def test_it_is_zero_for_equal_pictures_and_the_same_both_ways(backbone: Backbone) -> None:
    lpips, (ramp, waves) = build_random_lpips(backbone), make_ramp_and_waves()
    assert lpips(ramp, ramp).tolist() == [0.0]
    assert lpips(ramp, waves).item() == pytest.approx(lpips(waves, ramp).item(), rel=1e-5)
    assert lpips(ramp, waves).item() > 0


@BACKBONES
def test_each_pair_has_its_own_distance(backbone: Backbone) -> None:
    lpips, (ramp, waves) = build_random_lpips(backbone), make_ramp_and_waves()
    together = lpips(torch.cat([ramp, waves, ramp]), torch.cat([waves, waves, ramp + 0.1]))
    assert together.shape == (3,)
    assert together.tolist() == pytest.approx(
        [lpips(ramp, waves).item(), 0.0, lpips(ramp, ramp + 0.1).item()], rel=1e-4, abs=1e-7
    )


def test_it_is_the_weighted_squared_difference_of_unit_vectors() -> None:
    ramp, waves = make_ramp_and_waves()
    layers, heads = ("relu1", "relu2", "relu3", "relu4", "relu5"), random_heads(*CHANNELS["alex"])
    features = AlexNetFeatures(layers, random_alexnet())
    total = torch.zeros((), dtype=torch.float64)
    for k, name in enumerate(layers):
        one, two = (features(x)[name][0].double().flatten(1) for x in (ramp, waves))
        gap = (one / (one.square().sum(0).sqrt() + 1e-10) - two / (two.square().sum(0).sqrt() + 1e-10)).square()
        total += (heads[f"lin{k}.model.1.weight"].double().flatten() @ gap).mean()
    assert build_random_lpips("alex")(ramp, waves).item() == pytest.approx(total.item(), rel=1e-4)


def test_equal_pictures_give_a_gradient_that_is_a_number() -> None:
    black = torch.zeros(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(build_random_lpips("alex")(black, torch.zeros(1, 3, 64, 64)).sum(), black)
    assert torch.isfinite(gradient).all()


def test_heads_of_the_other_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"LPIPS heads of alex: lin1.model.1.weight has the shape \(1, 128, 1, 1\)"):
        LPIPS("alex", random_alexnet(), random_heads(*CHANNELS["vgg"]))


@REAL
@pytest.mark.realdata
@BACKBONES
def test_real_weights_give_the_distance_of_the_published_package(backbone: Backbone) -> None:
    lpips, (ramp, waves) = load_real_lpips(backbone), make_ramp_and_waves()
    assert lpips(ramp, waves).item() == pytest.approx(GOLDEN[backbone], rel=1e-5)
    assert lpips(ramp, ramp).item() == 0


@REAL
@pytest.mark.realdata
@BACKBONES
def test_real_weights_see_more_noise_as_more_distance(backbone: Backbone) -> None:
    lpips, (ramp, _) = load_real_lpips(backbone), make_ramp_and_waves()
    distances = [lpips(ramp, ramp + scale * make_noise(ramp)).item() for scale in (0.01, 0.03, 0.1, 0.3)]
    assert distances == sorted(distances)
    assert distances[0] < 0.2 * distances[-1]
