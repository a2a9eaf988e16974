"""The generator of DeepGIN: the sizes of the paper, and what may and what must influence its output."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets import NETWORKS, build_network, describe_network
from nets.deepgin.network import (
    COARSE_DILATIONS,
    REFINEMENT_DILATIONS,
    CoarseGenerator,
    DeepGIN,
    DeepGINConfig,
    SPDBlock,
    reduce_to,
)
from nets.layers.attention import NonLocalAttention
from nets.layers.convolution import UpConvolution, lay_channels_last
from nets.layers.smooth import fill_smoothly
from tests.nets.pictures import make_masked_pictures, num_parameters

SMALL = DeepGINConfig(8, 1, 2)


def small_network(residual: bool = False) -> DeepGIN:
    """A small generator with weights that matter: five times the paper's initialisation."""
    network = DeepGIN(replace(SMALL, residual=residual))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
    return network


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: CoarseGenerator(DeepGINConfig()), 8_167_843),
        (lambda: SPDBlock(256, COARSE_DILATIONS), 1_180_160),
        (lambda: SPDBlock(512, REFINEMENT_DILATIONS), 4_719_616),
        (lambda: NonLocalAttention(512), 525_568),
        (lambda: NonLocalAttention(128), 33_088),
        (lambda: NonLocalAttention(64), 8_352),
    ],
    ids=["coarse", "SPD-8", "SPD-4", "SA-512", "SA-128", "SA-64"],
)
def test_component_has_the_parameters_of_the_paper(build: Callable[[], nn.Module], count: int) -> None:
    assert num_parameters(build) == count


@pytest.mark.parametrize("dilations", [COARSE_DILATIONS, REFINEMENT_DILATIONS, (1,), (2,)], ids=str)
@pytest.mark.parametrize("channels", [8, 16, 64])
def test_every_kind_of_block_has_the_same_count(channels: int, dilations: tuple[int, ...]) -> None:
    assert num_parameters(lambda: SPDBlock(channels, dilations)) == 18 * channels**2 + 2 * channels


def test_back_projection_costs_38052_parameters() -> None:
    with torch.device("meta"):
        refinement = DeepGIN(DeepGINConfig()).refinement
    assert refinement is not None
    heads = {name: p for name, p in refinement.named_parameters() if name.startswith(("low_head", "alpha_head"))}
    assert sum(p.numel() for p in heads.values()) == 42_930_186 - 42_892_134


@pytest.mark.parametrize(("halvings", "reduction"), [(3, 2), (4, 4), (5, 8)])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (32, 96)], ids=str)
def test_forward_gives_finite_pictures_of_its_shapes(size: tuple[int, int], halvings: int, reduction: int) -> None:
    height, width = size
    network = DeepGIN(replace(SMALL, num_halvings=halvings))
    outputs = network(torch.rand(2, 3, height, width), (torch.rand(2, 1, height, width) > 0.5).float())
    assert {name: tuple(t.shape[1:]) for name, t in outputs.items()} == {
        "coarse": (3, height, width),
        "low": (3, height // reduction, width // reduction),
        "predicted": (3, height, width),
        "inpainted": (3, height, width),
    }
    assert all(torch.isfinite(t).all() for t in outputs.values())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_network_can_be_described_and_built_again(name: str) -> None:
    config = NETWORKS[name].config()
    description = describe_network(config)
    assert description["name"] == name
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in build_network(description).state_dict().items()}
        assert shapes == {n: t.shape for n, t in NETWORKS[name].network(config).state_dict().items()}


def test_an_unknown_network_is_named_with_the_known() -> None:
    with pytest.raises(ValueError, match="unknown network 'deepfill': known are deepgin"):
        build_network({"name": "deepfill", "config": {}})


@pytest.mark.parametrize("width", [6, 10, 31])
def test_a_width_that_does_not_divide_into_branches_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}: take a multiple of 4"):
        DeepGIN(DeepGINConfig(width))


def test_too_few_halvings_for_the_skips_are_refused() -> None:
    with pytest.raises(ValueError, match="num_halvings is 2: the skips need at least 3"):
        DeepGIN(DeepGINConfig(num_halvings=2))


@torch.no_grad()
def test_outside_the_hole_inpainted_is_the_image_bit_for_bit() -> None:
    image, mask = make_masked_pictures(32)
    inpainted, known = small_network()(image, mask)["inpainted"], mask.expand_as(image) == 0
    assert torch.equal(inpainted[known], image[known])
    assert not torch.equal(inpainted[~known], image[~known])


@torch.no_grad()
def test_inside_the_hole_inpainted_is_predicted() -> None:
    image, mask = make_masked_pictures(32)
    outputs, hole = small_network()(image, mask), mask.expand_as(image) == 1
    assert torch.equal(outputs["inpainted"][hole], outputs["predicted"][hole])


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_pixels_under_the_mask_are_not_read(residual: bool) -> None:
    image, mask = make_masked_pictures(32)
    network, hidden = small_network(residual), torch.where(mask > 0, torch.rand_like(image), image)
    before, after = network(image, mask), network(hidden, mask)
    assert all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
@pytest.mark.parametrize("place", [(0, 0), (31, 31), (7, 8)], ids=str)
def test_known_pixels_and_the_mask_are_read(place: tuple[int, int]) -> None:
    image, mask = make_masked_pictures(32)
    image[..., *place] = 1  # as white as the paint of holes, so that only the mask can tell them apart
    other, wider, network = image.clone(), mask.clone(), small_network()
    other[..., *place] = 0
    wider[..., *place] = 1
    before = network(image, mask)["coarse"]
    assert not torch.equal(network(other, mask)["coarse"], before)
    assert not torch.equal(network(image, wider)["coarse"], before)


@torch.no_grad()
def test_a_residual_network_adds_in_the_hole_alone() -> None:
    image, mask = make_masked_pictures(32)
    outputs, known = small_network(residual=True)(image, mask), mask.expand_as(image) == 0
    low, base = outputs["low"], reduce_to(outputs["coarse"] * mask + image * (1 - mask), outputs["low"])
    near = F.max_pool2d(mask, 4).expand_as(low) == 1
    assert torch.equal(outputs["coarse"][known], image[known])
    assert torch.equal(low[~near], base[~near]) and not torch.equal(low[near], base[near])


@torch.no_grad()
def test_a_residual_network_that_adds_nothing_gives_the_smooth_fill() -> None:
    image, mask = make_masked_pictures(32)
    smooth = fill_smoothly(image * (1 - mask), mask)
    outputs = DeepGIN(replace(SMALL, residual=True, initial_scale=0.0))(image, mask)
    assert all(torch.allclose(outputs[name], smooth, atol=1e-6) for name in ("coarse", "predicted", "inpainted"))
    assert torch.allclose(outputs["low"], reduce_to(smooth, outputs["low"]), atol=1e-6)


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other() -> None:
    image, mask = make_masked_pictures(32, 3)
    network = small_network()
    together, alone = network(image, mask), network(image[1:2], mask[1:2])
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-5) for n in alone)


@torch.no_grad()
def test_the_layout_of_weights_does_not_change_the_picture() -> None:
    network, (image, mask) = small_network(), make_masked_pictures(32)
    before = network(image, mask)["predicted"]
    lay_channels_last(network)
    assert torch.allclose(network(image, mask)["predicted"], before, atol=1e-5)


@torch.no_grad()
def test_an_spd_block_with_a_silent_mix_is_the_identity() -> None:
    block, x = SPDBlock(8, REFINEMENT_DILATIONS), torch.rand(1, 8, 16, 16)
    block.mix.weight.zero_()
    block.mix.bias = None
    assert torch.equal(block(x), x)


@torch.no_grad()
@pytest.mark.parametrize(("dilations", "reach"), [(COARSE_DILATIONS, 10 + 1), (REFINEMENT_DILATIONS, 5 + 1)], ids=str)
def test_an_spd_block_reaches_as_far_as_its_largest_dilation_and_one(dilations: tuple[int, ...], reach: int) -> None:
    block, x = SPDBlock(64, dilations), torch.rand(1, 64, 33, 33)
    other = x.clone()
    other[..., 16, 16] += 1
    rows, columns = torch.nonzero((block(x) - block(other)).abs().amax(dim=(0, 1)) > 1e-6, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (16 - reach, 16 + reach)
    assert (int(columns.min()), int(columns.max())) == (16 - reach, 16 + reach)


@torch.no_grad()
def test_attention_with_equal_keys_adds_the_mean_value_everywhere() -> None:
    attention, x = NonLocalAttention(2), torch.rand(1, 2, 4, 4)
    for parameter in attention.parameters():
        parameter.zero_()
    attention.value.weight[0] = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    attention.output.weight[:] = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    mean = x[0, 0].mean()
    assert torch.allclose(attention(x) - x, torch.stack([mean, 2 * mean]).view(1, 2, 1, 1).expand_as(x), atol=1e-6)


@torch.no_grad()
def test_attention_reaches_from_corner_to_corner() -> None:
    attention, x = NonLocalAttention(4), torch.rand(1, 4, 8, 8)
    other = x.clone()
    other[..., 0, 0] += 1
    assert not torch.equal(attention(x)[..., 7, 7], attention(other)[..., 7, 7])


def test_up_convolution_doubles_and_narrows() -> None:
    assert UpConvolution(8, 4)(torch.rand(1, 8, 5, 6)).shape == (1, 4, 10, 12)


def test_reduction_by_four_keeps_a_ramp_and_its_corners() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    assert torch.allclose(reduce_to(ramp, torch.empty(1, 1, 4, 4))[0, 0, 0], torch.linspace(0, 1, 4), atol=1e-6)


def test_initial_weights_are_a_tenth_of_kaiming_and_biases_zero() -> None:
    layers: list[Any] = [m for m in DeepGIN(DeepGINConfig(16, 1, 1)).modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        assert not layer.bias.any()
        if layer.weight.numel() > 5000:
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(0.1 * (2 / fan_in) ** 0.5, rel=0.05)
