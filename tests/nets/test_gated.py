"""Gated convolutions: what a gate lets through, and the shapes."""

import pytest
import torch
from torch.nn import functional as F

from nets.layers.gated import GatedConvolution, GatedUpConvolution


@torch.no_grad()
@pytest.mark.parametrize(("bias", "share"), [(-100.0, 0.0), (0.0, 0.5), (100.0, 1.0)])
def test_the_gate_says_how_much_of_the_features_passes(bias: float, share: float) -> None:
    layer, x = GatedConvolution(3, 4), torch.randn(2, 3, 8, 8)
    layer.convolution.weight[4:] = 0
    assert layer.convolution.bias is not None
    layer.convolution.bias[4:] = bias
    features = F.conv2d(x, layer.convolution.weight[:4], layer.convolution.bias[:4], padding=1)
    assert torch.allclose(layer(x), share * F.elu(features), atol=1e-6)


@torch.no_grad()
def test_the_activation_is_of_the_features_alone() -> None:
    layer = GatedConvolution(3, 4, activation=F.relu)
    assert layer(torch.randn(2, 3, 8, 8)).min() == 0
    assert GatedConvolution(3, 4)(torch.randn(2, 3, 8, 8)).min() < 0


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "side"), [(5, 1, 1, 16), (3, 2, 1, 8), (3, 1, 8, 16), (3, 1, 1, 16)]
)
def test_sizes_are_kept_or_halved(kernel: int, stride: int, dilation: int, side: int) -> None:
    layer = GatedConvolution(3, 4, kernel, stride=stride, dilation=dilation)
    assert layer(torch.zeros(1, 3, 16, 16)).shape == (1, 4, side, side)


@pytest.mark.parametrize(("kernel", "channels_in", "channels_out"), [(5, 4, 48), (3, 48, 96), (3, 96, 24)])
def test_it_costs_two_convolutions(kernel: int, channels_in: int, channels_out: int) -> None:
    count = sum(p.numel() for p in GatedConvolution(channels_in, channels_out, kernel).parameters())
    assert count == 2 * (kernel**2 * channels_in * channels_out + channels_out)


def test_up_doubles_by_nearest_neighbors_before_it_convolves() -> None:
    up, plain, x = GatedUpConvolution(3, 4), GatedConvolution(3, 4), torch.randn(1, 3, 4, 5)
    plain.load_state_dict(up.state_dict())
    assert torch.equal(up(x), plain(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))
