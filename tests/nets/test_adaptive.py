"""Adaptive convolution beside its formula: values and gradients, what it does at the borders, what it keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nets.layers.adaptive import AdaptiveConvolution, adaptive_convolution
from tests.nets.references import convolve_by_taps


def make_case(
    seed: int, channels: int, height: int, width: int, side: int = 3, reach: float = 2.0
) -> tuple[Tensor, ...]:
    """Random features, kernels and offsets in float64, all of which want gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, channels), (2, side**2), (2, 2 * side**2)]
    made = [torch.randn(*s, height, width, generator=generator, dtype=torch.float64) for s in shapes]
    made[2] *= reach
    return tuple(t.requires_grad_() for t in made)


def compute_gradients(y: Tensor, of: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of a scalar that weighs all values otherwise."""
    return torch.autograd.grad((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum(), of)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 5),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    side=st.sampled_from([1, 3, 5]),
    reach=st.sampled_from([0.0, 0.3, 2.0, 20.0]),
)
def test_it_is_its_formula_with_its_gradients(
    seed: int, channels: int, height: int, width: int, side: int, reach: float
) -> None:
    x = make_case(seed, channels, height, width, side, reach)
    found, exact = adaptive_convolution(*x), convolve_by_taps(*x)
    assert torch.allclose(found, exact, atol=1e-12)
    for of, reference in zip(compute_gradients(found, x), compute_gradients(exact, x), strict=True):
        assert torch.allclose(of, reference, atol=1e-12)


def test_single_precision_is_as_near_as_single_precision_can_be() -> None:
    x = make_case(0, 8, 16, 12)
    exact = convolve_by_taps(*x)
    found = adaptive_convolution(*(t.detach().float() for t in x))
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, atol=1e-5)


def test_channels_last_features_give_the_same_in_the_same_layout() -> None:
    x, kernels, offsets = (t.detach() for t in make_case(1, 4, 6, 5))
    laid = adaptive_convolution(x.contiguous(memory_format=torch.channels_last), kernels, offsets)
    assert torch.equal(laid, adaptive_convolution(x, kernels, offsets))
    assert laid.is_contiguous(memory_format=torch.channels_last)


def test_without_offsets_and_with_equal_kernels_it_is_a_convolution() -> None:
    x, kernel = torch.rand(2, 3, 6, 7), torch.rand(3, 3)
    kernels = kernel.view(1, 9, 1, 1).expand(2, 9, 6, 7)
    depthwise = F.conv2d(x, kernel.expand(3, 1, 3, 3), padding=1, groups=3)
    assert torch.allclose(adaptive_convolution(x, kernels, torch.zeros(2, 18, 6, 7)), depthwise, atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -2), (-3, 2)])
def test_whole_offsets_shift_and_what_comes_from_outside_is_nothing(down: int, right: int) -> None:
    x = torch.rand(1, 2, 6, 6)
    offsets = torch.tensor([down, right]).view(1, 2, 1, 1).expand(1, 2, 6, 6).float()
    shifted = adaptive_convolution(x, torch.ones(1, 1, 6, 6), offsets)
    padded = F.pad(x, (3, 3, 3, 3))
    assert torch.equal(shifted, padded[..., 3 + down : 9 + down, 3 + right : 9 + right])


def test_half_an_offset_is_the_mean_of_two() -> None:
    x = torch.tensor([[[[1.0, 3.0]]]])
    offsets = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    assert adaptive_convolution(x, torch.ones(1, 1, 1, 2), offsets).flatten().tolist() == [2.0, 1.5]


@torch.no_grad()
def test_the_module_begins_near_zero_or_as_a_box_filter() -> None:
    layer, x = AdaptiveConvolution(4), torch.rand(2, 4, 8, 8)
    assert 0 < float(layer(x).abs().max()) < 0.1
    layer.begin_as_box()
    assert torch.allclose(layer(x), F.avg_pool2d(x, 3, stride=1, padding=1), atol=1e-6)


@torch.no_grad()
def test_kernels_and_offsets_are_a_tenth_of_what_is_predicted() -> None:
    layer, x = AdaptiveConvolution(4, kernel=1), torch.rand(2, 4, 8, 8)
    layer.load_state_dict(
        layer.state_dict() | {"kernel.weight": torch.zeros(1, 4, 3, 3), "kernel.bias": Tensor([10.0])}
    )
    layer.load_state_dict(layer.state_dict() | {"offset.bias": Tensor([0.0, 20.0])})
    assert torch.allclose(layer(x)[..., :-2], x[..., 2:]) and not layer(x)[..., -2:].any()


def test_every_weight_of_the_module_learns_from_the_first_step_on() -> None:
    layer, x = AdaptiveConvolution(4), torch.rand(2, 4, 8, 8)
    loss = (layer(x) - x).square().mean()
    for gradient in torch.autograd.grad(loss, list(layer.parameters())):
        assert float(gradient.abs().sum()) > 0


def test_it_keeps_no_copy_of_the_features_for_each_tap() -> None:
    x, kernels, offsets = make_case(0, 128, 32, 32)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    small = tuple(t.detach().float().requires_grad_() for t in (x, kernels, offsets))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        adaptive_convolution(*small)
    assert sum(sizes) < 3 * x.numel() * 4  # nine taps would be nine copies and more


def test_broken_offsets_give_broken_numbers_and_no_fault() -> None:
    x, kernels, offsets = (t.detach().clone() for t in make_case(3, 2, 4, 4))
    offsets[0, 0, 0, 0], offsets[0, 0, 1, 1] = float("nan"), float("inf")
    y = adaptive_convolution(x, kernels, offsets)
    assert bool(torch.isnan(y[0, :, 0, 0]).all())
    assert bool(torch.isfinite(y[1]).all())


def test_mixed_precision_sums_in_single_precision() -> None:
    layer, x = AdaptiveConvolution(4), torch.rand(2, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), atol=0.02)
