"""Normalisations and blocks of SPN against references in float64 that are written as the papers say it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nets.spn.blocks import DenseBlock, ProjectingBlock, ResidualBlock, SPADEBlock, SPADEProjectingBlock
from nets.spn.normalization import (
    SPADE,
    LearnedRegionNormalization,
    RegionNormalization,
    normalize_instance,
    normalize_region,
)


def features(channels: int = 4, size: int = 8, number: int = 3) -> Tensor:
    return torch.randn(number, channels, size, size) * 3 + 1


def holes(size: int = 8, number: int = 3, share: float = 0.4) -> Tensor:
    return (torch.rand(number, 1, size, size) < share).float()


def region_by_the_paper(x: Tensor, region: Tensor) -> Tensor:
    """Complement filled with the region's mean, instance norm, times the root of the region's share."""
    x, region = x.double(), region.double()
    inside = x * region
    num = region.sum((2, 3), keepdim=True)
    num[num == 0] = 1
    mean = inside.sum((2, 3), keepdim=True) / num
    filled = inside + (1 - region) * mean
    return F.instance_norm(filled) * (num / region[0, 0].numel()).sqrt()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.9, 1.0])
def test_region_norm_is_the_papers_construction(share: float) -> None:
    x, region = features(), holes(share=share)
    assert torch.allclose(normalize_region(x, region).double(), region_by_the_paper(x, region), atol=1e-5)


def test_inside_a_region_features_have_mean_0_and_variance_1_and_outside_they_are_0() -> None:
    x, region = features(size=32), holes(size=32)
    y = normalize_region(x, region)
    for sample in range(3):
        inside = y[sample][:, region[sample, 0] == 1]
        assert torch.allclose(inside.mean(1), torch.zeros(4), atol=1e-5)
        assert torch.allclose(inside.std(1, correction=0), torch.ones(4), atol=1e-3)
        assert not y[sample][:, region[sample, 0] == 0].any()


def test_fresh_region_normalisation_ignores_what_the_regions_are_scaled_and_moved_by() -> None:
    x, mask = features(size=16), holes(size=16)
    moved = (x * 3 + 5) * mask + (x * 0.5 - 2) * (1 - mask)
    norm = RegionNormalization(4)
    assert torch.allclose(norm(x, mask), norm(moved, mask), atol=1e-3)


@torch.no_grad()
def test_scales_act_on_their_region_and_shifts_everywhere() -> None:
    x, mask, norm = features(), holes(), RegionNormalization(4)
    plain = norm(x, mask)
    norm.hole_scale.fill_(1)
    assert torch.allclose(norm(x, mask), plain * (1 + mask))
    norm.rest_scale.fill_(2)
    assert torch.allclose(norm(x, mask), plain * (2 * mask + 3 * (1 - mask)))
    norm.hole_shift.fill_(0.5)
    norm.rest_shift.fill_(0.25)
    assert torch.allclose(norm(x, mask), plain * (2 * mask + 3 * (1 - mask)) + 0.75)


def test_a_larger_mask_is_taken_at_the_size_of_the_features() -> None:
    x, mask, norm = features(size=8), holes(size=32), RegionNormalization(4)
    assert torch.equal(norm(x, mask), norm(x, mask[..., ::4, ::4]))


def test_learned_region_normalisation_has_198_parameters_and_is_the_papers() -> None:
    norm, x = LearnedRegionNormalization(), features(size=16)
    with torch.no_grad():
        norm.importance.weight.mul_(5)
    assert sum(p.numel() for p in norm.parameters()) == 198
    doubles = {name: p.detach().double() for name, p in norm.named_parameters()}
    summary = torch.stack([x.double().mean(1), x.double().max(1).values], dim=1)
    importance = torch.sigmoid(F.conv2d(summary, doubles["importance.weight"], padding=3))
    region = (importance >= 0.8).double()
    assert 0.1 < region.mean() < 0.9
    scale = F.conv2d(importance, doubles["scale.weight"], doubles["scale.bias"], padding=3)
    shift = F.conv2d(importance, doubles["shift.weight"], doubles["shift.bias"], padding=3)
    by_hand = (region_by_the_paper(x, region) + region_by_the_paper(x, 1 - region)) * (1 + scale) + shift
    assert torch.allclose(norm(x).double(), by_hand, atol=1e-4)


@torch.no_grad()
def test_a_pixel_whose_importance_is_exactly_the_threshold_is_of_the_important_region() -> None:
    norm, x = LearnedRegionNormalization(), features(size=8)
    norm.importance.weight.zero_()
    norm.importance.weight[0, 0, 3, 3] = 1  # importance is the sigmoid of the pixel's own mean over channels
    x[:, :, 3, 4] = 1.3862944
    importance = torch.sigmoid(x.mean(1, keepdim=True))
    assert (importance[..., 3, 4] == 0.8).all()
    region = (x.mean(1, keepdim=True) > 1.3862).float()
    assert region[..., 3, 4].all()
    by_hand = region_by_the_paper(x, region) + region_by_the_paper(x, 1 - region)
    by_hand = by_hand * (1 + norm.scale(importance)) + norm.shift(importance)
    assert torch.allclose(norm(x).double(), by_hand, atol=1e-4)


def test_instance_norm_is_that_of_torch() -> None:
    x = features(size=9)
    assert torch.allclose(normalize_instance(x), F.instance_norm(x), atol=1e-5)


def test_spade_scales_and_shifts_by_what_it_makes_of_the_prior() -> None:
    spade, x, prior = SPADE(4, 6, 5), features(), torch.randn(3, 6, 8, 8)
    hidden = F.relu(F.conv2d(prior, spade.shared.weight, spade.shared.bias, padding=1))
    gamma = F.conv2d(hidden, spade.scale.weight, spade.scale.bias, padding=1)
    beta = F.conv2d(hidden, spade.shift.weight, spade.shift.bias, padding=1)
    assert torch.allclose(spade(x, prior), F.instance_norm(x) * (1 + gamma) + beta, atol=1e-5)


def test_spade_without_a_say_is_the_instance_norm() -> None:
    spade, x = SPADE(4, 6, 5), features()
    for parameter in (*spade.scale.parameters(), *spade.shift.parameters()):
        parameter.data.zero_()
    assert torch.equal(spade(x, torch.randn(3, 6, 8, 8)), normalize_instance(x))


def reflected(x: Tensor, layer: torch.nn.Conv2d, by: int, dilation: int = 1) -> Tensor:
    padded = F.pad(x, (by,) * 4, mode="reflect")
    return F.conv2d(padded, layer.weight, layer.bias, dilation=dilation)


def test_the_bottleneck_block_is_the_codes() -> None:
    block, x, prior = SPADEBlock(4, 6, 5), features(), torch.randn(3, 6, 8, 8)
    inner = reflected(block.adapt_first(x, prior).relu(), block.first, 2, dilation=2)
    inner = reflected(block.adapt_second(inner, prior).relu(), block.second, 1)
    assert torch.allclose(block(x, prior), x + inner, atol=1e-5)


def test_the_decoding_block_is_the_codes() -> None:
    block, x, prior = SPADEProjectingBlock(8, 4, 6, 5), features(8), torch.randn(3, 6, 8, 8)

    def zero_padded(y: Tensor, layer: torch.nn.Conv2d) -> Tensor:
        return F.conv2d(y, layer.weight, layer.bias, padding=1)

    inner = zero_padded(F.leaky_relu(block.adapt_first(x, prior), 0.2), block.first)
    inner = zero_padded(F.leaky_relu(block.adapt_second(inner, prior), 0.2), block.second)
    shortcut = zero_padded(block.adapt_shortcut(x, prior), block.shortcut)
    assert torch.allclose(block(x, prior), shortcut + inner, atol=1e-5)


def test_plain_blocks_are_the_codes() -> None:
    x = features()
    same, other = ResidualBlock(4), ProjectingBlock(4, 6)
    assert torch.allclose(same(x), x + reflected(reflected(x, same.first, 1).relu(), same.second, 1), atol=1e-5)
    shortcut = reflected(x, other.shortcut, 1)
    by_hand = shortcut + reflected(reflected(x, other.first, 1).relu(), other.second, 1)
    assert torch.allclose(other(x), by_hand, atol=1e-5)


def test_layers_of_a_dense_block_see_all_before_them() -> None:
    block, x = DenseBlock(4, 3, 2), features()
    one = F.conv2d(x, block.layers[0].weight, block.layers[0].bias, padding=1).relu()  # type: ignore[arg-type]
    seen = torch.cat([x, one], 1)
    two = F.conv2d(seen, block.layers[1].weight, block.layers[1].bias, padding=1).relu()  # type: ignore[arg-type]
    assert torch.allclose(block(x), x + block.fusion(torch.cat([seen, two], 1)), atol=1e-5)


def test_a_dense_block_of_the_paper_has_its_parameters() -> None:
    with torch.device("meta"):
        block = DenseBlock(256, 32, 6)
    assert sum(p.numel() for p in block.parameters()) * 16 == 11_131_904
