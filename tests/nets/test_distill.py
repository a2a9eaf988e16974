"""The networks of DGI: their sizes to the last parameter, their parts, what may and what must influence a fill."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.distill.blocks import Affinity, DecoderLevel
from nets.distill.meta import Alignment, MetaNetworks
from nets.distill.network import (
    AuxiliaryNetwork,
    Backbone,
    DistillConfig,
    InpaintingNetwork,
    reduce_hole,
    find_matching_widths,
)
from nets.distill.objective import VARIANTS, DistillObjectiveConfig, variant
from nets.layers.smooth import fill_smoothly
from tests.nets.pictures import make_masked_pictures, num_parameters
from tests.sampling import sample_cases

SMALL = DistillConfig(8, 6, (1, 1, 1), 1)
PAPER = DistillObjectiveConfig()


def lively(**changes: Any) -> InpaintingNetwork:
    """A small network with offsets, kernels and fusion weights that matter."""
    network = InpaintingNetwork(replace(SMALL, **changes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: InpaintingNetwork(DistillConfig()), 5_280_508),
        (lambda: AuxiliaryNetwork(DistillConfig()), 5_213_187),
        (lambda: Alignment([128] * 3), 524_544),
        (lambda: MetaNetworks([128] * 3, [128] * 3), 132_483),
        (lambda: InpaintingNetwork(variant("baseline", PAPER).network), 5_280_508),
    ],
    ids=["IN", "AN", "f_l", "meta", "baseline"],
)
def test_network_has_its_number_of_parameters(build: Callable[[], nn.Module], count: int) -> None:
    assert num_parameters(build) == count


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_variant_has_the_number_of_the_final_model_or_one_more(name: str) -> None:
    count = num_parameters(lambda: InpaintingNetwork(variant(name, PAPER).network))
    assert count == 5_280_508 + (name in ("net4", "net5"))  # no widths of the matching blocks come nearer there


def test_the_bare_backbone_lacks_what_the_parts_have() -> None:
    bare = replace(DistillConfig(), completion=False, attention=False, fusion=False)
    assert num_parameters(lambda: InpaintingNetwork(bare)) == 5_280_508 - 2 * 31_131 - 3 * (16_512 + 1_153)


@pytest.mark.parametrize("channels", [8, 24, 32, 128])
def test_matching_blocks_come_as_near_as_any_of_their_kind(channels: int) -> None:
    def error(wide: int, narrow: int, missing: int) -> int:
        return abs(wide * (18 * channels + 1) + narrow * (2 * channels + 1) + 2 * channels - missing)

    for missing in (100, 3_000, 20_000):
        most = missing // channels // 2 + 2
        best = min(error(wide, narrow, missing) for wide in range(1, most // 9 + 2) for narrow in range(1, most))
        assert error(*find_matching_widths(missing, channels), missing) == best


@torch.no_grad()
@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("size", [(64, 64), (32, 48)], ids=str)
def test_forward_gives_finite_pictures_and_features_of_their_shapes(name: str, size: tuple[int, int]) -> None:
    config = variant(name, replace(PAPER, network=SMALL)).network
    height, width = size
    o = InpaintingNetwork(config)(torch.rand(2, 3, *size), (torch.rand(2, 1, *size) > 0.5).float())
    assert o["predicted"].shape == o["inpainted"].shape == (2, 3, height, width)
    assert [o[f"encoded_{level}"].shape for level in (1, 2, 3)] == [
        (2, 8, height >> level, width >> level) for level in (1, 2, 3)
    ]
    assert ("query_1" in o) == config.attention
    if config.attention:
        assert o["query_1"].shape == (2, height * width // 4, 4)
        assert o["key_1"].shape == (2, height * width // 16, 4)
    assert all(bool(torch.isfinite(t).all()) for t in o.values())


FULL = {name: variant(name, PAPER).network for name in VARIANTS} | {
    "replacing": DistillConfig(additive_fusion=False),
    "residual": DistillConfig(residual=True),
}


@pytest.mark.parametrize("name", sample_cases(FULL, ("baseline", "net8")))
def test_the_full_size_learns_at_256(name: str) -> None:
    network = InpaintingNetwork(FULL[name])
    o = network(*make_masked_pictures(256, 1))
    gradients = torch.autograd.grad(o["predicted"].mean(), list(network.parameters()), allow_unused=True)
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_outside_the_hole_inpainted_is_the_image_and_inside_it_is_predicted(residual: bool) -> None:
    image, mask = make_masked_pictures()
    o, hole = lively(residual=residual)(image, mask), mask.expand_as(image) == 1
    assert torch.equal(o["inpainted"][~hole], image[~hole])
    assert torch.equal(o["inpainted"][hole], o["predicted"][hole])


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_pixels_under_the_mask_are_not_read(residual: bool) -> None:
    image, mask = make_masked_pictures()
    network, hidden = lively(residual=residual), torch.where(mask > 0, torch.rand_like(image), image)
    before, after = network(image, mask), network(hidden, mask)
    assert all(torch.equal(before[name], after[name]) for name in before)


@torch.no_grad()
@pytest.mark.parametrize("place", [(0, 0), (31, 31), (7, 8)], ids=str)
def test_known_pixels_and_the_mask_are_read(place: tuple[int, int]) -> None:
    image, mask = make_masked_pictures()
    image[..., *place] = 0  # as black as a hole, so that only the mask can tell them apart
    other, wider, network = image.clone(), mask.clone(), lively()
    other[..., *place] = 1
    wider[..., *place] = 1
    before = network(image, mask)["predicted"]
    assert not torch.equal(network(other, mask)["predicted"], before)
    assert not torch.equal(network(image, wider)["predicted"], before)


@torch.no_grad()
def test_a_residual_network_that_adds_nothing_gives_the_smooth_fill() -> None:
    (image, mask), network = make_masked_pictures(), lively(residual=True)
    network.backbone.picture.weight.zero_()
    network.backbone.picture.bias = None
    assert torch.equal(network(image, mask)["predicted"], fill_smoothly(image * (1 - mask), mask))


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other() -> None:
    image, mask = make_masked_pictures(32, 3)
    network = lively()
    together, alone = network(image, mask), network(image[1:2], mask[1:2])
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-5) for n in alone)


@torch.no_grad()
def test_a_completion_block_changes_the_hole_alone() -> None:
    network, (image, mask) = Backbone(4, SMALL), make_masked_pictures()
    x = torch.cat([image, mask], dim=1)
    plain = Backbone(4, replace(SMALL, completion=False))
    plain.load_state_dict(network.state_dict(), strict=False)
    with_block, without = network(x, mask)[1]["encoded_1"], plain(x)[1]["encoded_1"]
    hole = reduce_hole(mask, without).expand_as(without) == 1
    assert torch.equal(with_block[~hole], without[~hole])
    assert network.completion is not None
    network.completion.begin_as_box()
    box = F.avg_pool2d(without, 3, stride=1, padding=1)
    assert torch.allclose(network(x, mask)[1]["encoded_1"][hole], (without + box)[hole], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("additive_fusion", [True, False])
def test_fusion_begins_quietly_where_it_adds_and_as_a_box_filter_where_it_replaces(additive_fusion: bool) -> None:
    network, x = Backbone(4, replace(SMALL, additive_fusion=additive_fusion)), torch.rand(2, 8, 16, 16)
    network.initialise()
    level, local = network.decoder[0], network.local
    assert isinstance(level, DecoderLevel) and local is not None
    found = level(x, local)
    if additive_fusion:
        assert float((found["output"] - found["decoded"]).std() / found["decoded"].std()) < 0.2
    else:
        box = F.avg_pool2d(found["decoded"], 3, stride=1, padding=1)
        assert torch.allclose(local(found["decoded"]), box, atol=1e-5)


def test_a_cell_is_hole_if_any_of_its_pixels_is() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 3, 4] = 1
    assert reduce_hole(mask, torch.empty(1, 5, 2, 2)).flatten().tolist() == [0, 1, 0, 0]


def attention_reference(layer: Affinity, x: Tensor) -> Tensor:
    """Eqs. 7 and 8 with the whole matrix."""
    pooled = F.avg_pool2d(x, layer.pooling)
    scores = torch.einsum("ncij,nckl->nijkl", layer.query(x), layer.key(pooled)).flatten(3)
    return torch.einsum("nijk,nck->ncij", torch.softmax(scores, dim=3), pooled.flatten(2))


@pytest.mark.parametrize("pooling", [1, 2])
def test_attention_is_its_formula_with_its_gradients(pooling: int) -> None:
    layer, x = Affinity(8, pooling).double(), torch.randn(2, 8, 6, 4, dtype=torch.float64, requires_grad=True)
    found, exact = layer(x)[0], attention_reference(layer, x)
    assert torch.allclose(found, exact, atol=1e-10)
    weights, of = torch.randn_like(found), [x, *layer.parameters()]
    pairs = zip(*(torch.autograd.grad((y * weights).sum(), of) for y in (found, exact)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in pairs)


@torch.no_grad()
def test_attention_gives_the_shares_that_transfer_compares() -> None:
    layer, x = Affinity(8, 2), torch.randn(2, 8, 6, 4)
    attended, query, key = layer(x)
    shares, pooled = torch.softmax(query @ key.mT, dim=2), F.avg_pool2d(x, 2).flatten(2)
    assert torch.allclose((shares @ pooled.mT).mT.view_as(x), attended, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("additive_fusion", [False, True])
@pytest.mark.parametrize("weight", [-100.0, 0.0, 100.0])
def test_fusion_chooses_between_attention_and_neighbourhood(weight: float, additive_fusion: bool) -> None:
    network = Backbone(4, replace(SMALL, additive_fusion=additive_fusion))
    level, x, local = network.decoder[0], torch.randn(1, 8, 8, 8), network.local
    assert isinstance(level, DecoderLevel)
    assert level.weight is not None and level.affinity is not None and local is not None
    level.weight.weight.zero_()
    level.weight.bias = nn.Parameter(torch.tensor([weight]))
    o = level(x, local)
    share = torch.sigmoid(torch.tensor(weight))
    fused = level.affinity(o["decoded"])[0] * share + local(o["decoded"]) * (1 - share)
    assert torch.allclose(o["output"], fused + o["decoded"] if additive_fusion else fused, atol=1e-5)


def test_predictors_are_one_pair_for_the_encoder_and_one_for_the_decoder() -> None:
    names = [n for n, _ in InpaintingNetwork(DistillConfig(8, 6, (1,) * 4, 1, (1,) * 4)).named_parameters()]
    assert sum("offset.weight" in n for n in names) == 2


@torch.no_grad()
def test_the_teacher_sees_the_whole_picture_and_has_no_adaptive_part() -> None:
    teacher, (image, _) = AuxiliaryNetwork(SMALL), make_masked_pictures()
    o = teacher(image)
    assert not any("offset" in n or "weight.weight" in n for n, _ in teacher.named_parameters())
    assert {f"{part}_{level}" for part in ("encoded", "decoded", "query", "key") for level in (1, 2, 3)} < o.keys()
    assert bool((o["predicted"] > 0).all() and (o["predicted"] < 1).all())


def test_checkpointing_changes_no_gradient() -> None:
    image, mask = make_masked_pictures()
    kept, again = InpaintingNetwork(SMALL), InpaintingNetwork(replace(SMALL, checkpointing=True))
    again.load_state_dict(kept.state_dict())
    pairs = zip(
        *(torch.autograd.grad(n(image, mask)["predicted"].mean(), list(n.parameters())) for n in (kept, again)),
        strict=True,
    )
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in pairs)


@pytest.mark.slow
@torch.no_grad()
def test_it_compiles_as_one_graph() -> None:
    network, (image, mask) = lively(), make_masked_pictures()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for name, tensor in network(image, mask).items():
        assert torch.allclose(compiled(image, mask)[name], tensor, atol=1e-5), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key_pooling": (1, 1)}, r"key_pooling is \(1, 1\), encoder_blocks \(1, 1, 1\): give each level one of both"),
        ({"attention": False}, "fusion is on and attention off: .* set both"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **changes)
