"""The attention layers that stand in for each other: patches, hidden keys, temperatures, and what each is made of."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nets.layers.patches import fold_patches, unfold_patches
from nets.mhtma.attention import AttentionHead, Matching, TemperatureAttention, TemperatureNetwork, find_hidden_patches
from nets.mhtma.contextual import TEMPERATURE, ContextualAttention, fuse_scores

SIDES = st.integers(3, 9)


def make_hole(side: int, top: int, left: int, length: int) -> Tensor:
    """11SS with a square hole."""
    mask = torch.zeros(1, 1, side, side)
    mask[..., top : top + length, left : left + length] = 1
    return mask


def set_temperatures(attention: TemperatureAttention, *temperatures: float) -> TemperatureAttention:
    """The same with these temperatures, whatever is seen."""
    for head, temperature in zip(attention.heads, temperatures, strict=True):
        assert isinstance(head, AttentionHead)
        torch.nn.init.zeros_(head.temperature.linear.weight)
        torch.nn.init.constant_(head.temperature.linear.bias, float(torch.tensor(temperature).expm1().log()))
    return attention


@given(st.integers(0, 99), SIDES, SIDES, st.sampled_from([1, 3]))
def test_patches_put_back_are_the_map(seed: int, height: int, width: int, size_px: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    patches = unfold_patches(x, size_px, size_px // 2)
    assert patches.shape == (2, height * width, 3 * size_px**2)
    assert torch.allclose(fold_patches(patches, height, width, size_px), x, atol=1e-6)


def test_patches_without_padding_lie_within_the_map() -> None:
    x = torch.arange(20.0).view(1, 1, 4, 5)
    patches = unfold_patches(x, 3)
    assert patches.shape == (1, 6, 9)
    assert patches[0, 4].tolist() == x[0, 0, 1:4, 1:4].flatten().tolist()


def test_a_pixel_is_the_mean_of_what_the_patches_around_it_say() -> None:
    patches = torch.arange(9.0)[None, :, None].expand(1, 9, 9)  # each place says its number of all pixels around it
    folded = fold_patches(patches, 3, 3, 3)[0, 0]
    assert folded[1, 1] == 4
    assert folded[0, 0] == (0 + 1 + 3 + 4) / 4


@given(SIDES, st.integers(0, 6), st.integers(0, 6), st.integers(1, 4), st.sampled_from([0.0, 0.2, 0.5, 0.99]))
def test_a_key_is_hidden_where_more_than_the_share_of_it_is_missing(
    side: int, top: int, left: int, length: int, share: float
) -> None:
    mask = make_hole(side, top, left, length)
    hidden = find_hidden_patches(mask, 3, share).view(side - 2, side - 2)
    for row in range(side - 2):
        for column in range(side - 2):
            missing = int(mask[0, 0, row : row + 3, column : column + 3].sum())
            assert bool(hidden[row, column]) == (missing > 9 * share)


@torch.no_grad()
@given(st.integers(0, 99))
def test_softplus_keeps_temperatures_positive_and_leaky_relu_does_not(seed: int) -> None:
    torch.manual_seed(seed)
    features = torch.randn(3, 8, 8, 8)
    softplus, leaky = TemperatureNetwork(8, positive=True), TemperatureNetwork(8, positive=False)
    leaky.load_state_dict(softplus.state_dict())
    for bias in (-30.0, -0.5, 2.0):
        torch.nn.init.constant_(softplus.linear.bias, bias)
        torch.nn.init.constant_(leaky.linear.bias, bias)
        assert (softplus(features) > 0).all()
    torch.nn.init.constant_(leaky.linear.bias, -30.0)
    assert (leaky(features) < 0).all()


@torch.no_grad()
def test_temperatures_begin_near_ln_2_and_are_never_zero() -> None:
    for positive in (True, False):
        network = TemperatureNetwork(8, positive)
        assert network(torch.zeros(2, 8, 8, 8)).tolist() == pytest.approx([0.69, 0.69], abs=0.3)
        torch.nn.init.zeros_(network.linear.weight)
        torch.nn.init.constant_(network.linear.bias, -100.0 if positive else 0.0)
        assert network(torch.zeros(2, 8, 8, 8)).tolist() == pytest.approx([1e-4, 1e-4])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_temperatures_are_of_full_precision_under_autocast(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert TemperatureNetwork(8, positive=True)(torch.randn(2, 8, 8, 8, dtype=dtype)).dtype == torch.float32


@torch.no_grad()
def test_at_a_low_temperature_without_a_hole_the_layer_gives_its_embedding_back() -> None:
    layer, x = set_temperatures(TemperatureAttention(16, 2, Matching()), 0.001, 0.001), torch.randn(1, 16, 10, 10)
    attended, _ = layer(x, torch.zeros(1, 1, 40, 40))
    embedded = torch.cat([head.embedding(x) for head in layer.heads if isinstance(head, AttentionHead)], dim=1)
    inside = slice(2, -2)  # at the border the queries have padding that no key has
    assert torch.allclose(attended[..., inside, inside], embedded[..., inside, inside], atol=1e-4)


@torch.no_grad()
def test_features_under_the_hole_are_asked_but_never_answer() -> None:
    layer, x, mask = TemperatureAttention(16, 2, Matching()), torch.randn(1, 16, 10, 10), make_hole(40, 12, 12, 12)
    for head in layer.heads:
        assert isinstance(head, AttentionHead)
        torch.nn.init.zeros_(head.temperature.linear.weight)  # the temperature looks at everything
    other = x.clone()
    other[..., 4, 4] += 1
    moved = (layer(x, mask)[0] - layer(other, mask)[0]).abs().amax(dim=(0, 1)) > 1e-6
    rows, columns = torch.nonzero(moved, as_tuple=True)
    reach = 2  # a query sees one pixel on, and its answer is spread by one more
    assert {int(rows.min()), int(columns.min())} == {4 - reach}
    assert {int(rows.max()), int(columns.max())} == {4 + reach}


@torch.no_grad()
@pytest.mark.parametrize(("active_heads", "silent"), [("highest", slice(8, 16)), ("lowest", slice(0, 8))])
def test_one_head_can_be_active_alone(active_heads: str, silent: slice) -> None:
    layer, x, mask = (
        set_temperatures(TemperatureAttention(16, 2, Matching()), 2.0, 0.5),
        torch.randn(2, 16, 8, 8),
        make_hole(8, 2, 2, 3),
    )
    both, temperatures = layer(x, mask.expand(2, 1, 8, 8))
    alone, _ = layer(x, mask.expand(2, 1, 8, 8), active_heads)
    active = [i for i in range(16) if i not in range(16)[silent]]
    assert temperatures[0].tolist() == pytest.approx([2.0001, 0.5001], abs=1e-4)
    assert not alone[:, silent].any()
    assert torch.equal(alone[:, active], both[:, active])


@torch.no_grad()
def test_a_residual_layer_adds_to_its_input() -> None:
    plain, added = (TemperatureAttention(8, 2, Matching(), residual=r) for r in (False, True))
    added.load_state_dict(plain.state_dict())
    x, mask = torch.randn(1, 8, 8, 8), make_hole(8, 2, 2, 3)
    assert torch.allclose(added(x, mask)[0], x + plain(x, mask)[0])


@torch.no_grad()
def test_atma_is_a_convolution_with_the_keys_as_kernels() -> None:
    head, x, mask = AttentionHead(8, 4, Matching(normalized=False)), torch.randn(1, 8, 7, 7), make_hole(7, 2, 2, 2)
    attended, temperature = head(x, mask)
    embedded = head.embedding(x)
    patches = torch.stack([embedded[0, :, i : i + 3, j : j + 3] for i in range(5) for j in range(5)])
    kernels = patches / patches.flatten(1).norm(dim=1)[:, None, None, None]
    scores = F.conv2d(embedded, kernels, padding=1)
    touched = torch.stack([mask[0, 0, i : i + 3, j : j + 3].any() for i in range(5) for j in range(5)])
    scores[:, touched] = -1e4
    shares = torch.softmax(scores / temperature, dim=1)
    pasted = F.conv_transpose2d(shares, patches, padding=1)
    overlaps = F.conv_transpose2d(torch.ones(1, 1, 7, 7), torch.ones(1, 1, 3, 3), padding=1)
    assert torch.allclose(attended, pasted / overlaps, atol=1e-5)


def attend_by_context(x: Tensor, mask: Tensor) -> Tensor:
    """Contextual attention of one sample by convolutions, as DeepFillv2 words it; small square maps."""
    side = x.shape[2] // 2
    small, small_mask = x[..., ::2, ::2], mask[..., ::2, ::2]
    around = F.pad(small, (1, 1, 1, 1))
    keys = torch.stack([around[0, :, i : i + 3, j : j + 3] for i in range(side) for j in range(side)])
    scores = F.conv2d(around, keys / keys.flatten(1).norm(dim=1)[:, None, None, None])[0].view(side**2, side**2).T
    identity = torch.eye(3)[None, None]
    fused = F.conv2d(scores[None, None], identity, padding=1).view(side, side, side, side)
    turned = fused.permute(1, 0, 3, 2).reshape(1, 1, side**2, side**2)
    fused = F.conv2d(turned, identity, padding=1).view(side, side, side, side).permute(1, 0, 3, 2)
    masks = F.pad(small_mask, (1, 1, 1, 1))
    known = torch.stack([1 - masks[0, 0, i : i + 3, j : j + 3].amax() for i in range(side) for j in range(side)])
    shares = torch.softmax(fused.reshape(side**2, side**2) * known * 10, dim=1) * known
    wide = F.pad(x, (1, 1, 1, 1))
    raw = torch.stack([wide[0, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] for i in range(side) for j in range(side)])
    return F.conv_transpose2d(shares.T.reshape(1, side**2, side, side), raw, stride=2, padding=1) / 4


@torch.no_grad()
def test_contextual_attention_is_what_deepfill_does_by_convolutions() -> None:
    x, mask = torch.randn(2, 6, 12, 12), make_hole(12, 4, 4, 3).repeat(2, 1, 1, 1)
    mask[1, :, 0, 0] = 1
    attended, temperatures = ContextualAttention()(x, mask)
    for sample in range(2):
        assert torch.allclose(attended[sample], attend_by_context(x[sample, None], mask[sample, None])[0], atol=1e-5)
    assert temperatures.tolist() == [[pytest.approx(TEMPERATURE)]] * 2


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(3, 5), (4, 4), (6, 2)])
def test_fusion_adds_the_scores_of_neighbors_in_both_orders(height: int, width: int) -> None:
    scores = torch.zeros(1, height * width, height * width)
    middle = (height // 2) * width + width // 2
    scores[0, middle, middle] = 1
    fused = fuse_scores(scores, height, width)
    assert fused.sum() == pytest.approx(9, abs=2)  # three steps in rows times three in columns, less what lies outside
    assert torch.equal(fused.diagonal(dim1=1, dim2=2).sum(), fused.sum())


@torch.no_grad()
def test_contextual_attention_is_silent_where_nothing_is_known() -> None:
    assert not ContextualAttention()(torch.randn(1, 4, 8, 8), torch.ones(1, 1, 32, 32))[0].any()
