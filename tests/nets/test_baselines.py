"""Other papers' generators and what DGI adds to them: shapes, what they read, their layers, what is taught."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jobs.recipes.distill import BACKBONES
from nets import build_objective
from nets.baselines.backbone import CompletionBlocks
from nets.baselines.edge import EC, ECConfig, EdgeConnectGenerator, find_edges
from nets.baselines.gated import GC, ContextualAttention, GCConfig
from nets.baselines.objective import ATTENTION, ENCODER, BaselineObjectiveConfig, build_backbone
from nets.baselines.partial import PC, PartialConvolution, PCConfig
from nets.distill.network import reduce_hole
from nets.layers.smooth import fill_smoothly
from nets.objective import BilevelPhase, Inputs, Phase
from pipelines.noise import SampleNoise
from tests.nets.configs import CONFIGS
from tests.nets.objectives import inputs, objective, find_phase, total
from tests.nets.pictures import make_masked_pictures
from tests.sampling import sample_cases

SMALL: dict[str, Any] = {
    "gc": GCConfig(4, (2,)),
    "ec": ECConfig(4, 1),
    "ec#": ECConfig(4, 1, edges=False),
    "pc": PCConfig((4, 8, 8), (5, 3, 3)),
}
NAMES = pytest.mark.parametrize("name", list(SMALL))
WAYS = pytest.mark.parametrize("changes", [{}, {"completion": True}, {"residual": True}], ids=str)


def num_parameters(config: Any) -> int:
    """Trainable parameters, counted without making them."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_backbone(config).parameters())


@NAMES
@WAYS
@torch.no_grad()
def test_forward_gives_pictures_and_the_features_that_can_be_taught(name: str, changes: dict[str, bool]) -> None:
    network, (image, mask) = build_backbone(replace(SMALL[name], **changes)), make_masked_pictures()
    o = network(image, mask)
    assert o["predicted"].shape == o["inpainted"].shape == image.shape
    for level, channels in enumerate(network.taught, start=1):
        assert o[f"encoded_{level}"].shape == (2, channels, 32 >> level, 32 >> level)
    for level, channels in enumerate(network.attended, start=1):
        assert o[f"decoded_{level}"].shape[:2] == (2, channels)
    assert all(bool(torch.isfinite(t).all()) for t in o.values())


@NAMES
@WAYS
@torch.no_grad()
def test_pixels_under_the_mask_are_not_read(name: str, changes: dict[str, bool]) -> None:
    network, (image, mask) = build_backbone(replace(SMALL[name], **changes)), make_masked_pictures()
    before, after = network(image, mask), network(torch.where(mask > 0, torch.rand_like(image), image), mask)
    assert all(torch.equal(before[name], after[name]) for name in before)
    known = mask.expand_as(image) == 0
    assert torch.equal(before["inpainted"][known], image[known])
    assert torch.equal(before["inpainted"][~known], before["predicted"][~known])


@NAMES
@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other(name: str) -> None:
    network, (image, mask) = build_backbone(SMALL[name]), make_masked_pictures(number=3)
    together, alone = network(image, mask), network(image[1:2], mask[1:2])
    assert all(torch.allclose(together[n][1:2], alone[n], atol=1e-5) for n in alone)


@NAMES
@torch.no_grad()
def test_a_residual_network_that_adds_nothing_gives_the_smooth_fill(name: str) -> None:
    network, (image, mask) = build_backbone(replace(SMALL[name], residual=True)), make_masked_pictures()
    for parameter in network.parameters():
        parameter.zero_()
    assert torch.allclose(network(image, mask)["predicted"], fill_smoothly(image * (1 - mask), mask), atol=1e-6)


FULL = BACKBONES | {"pc-star": BaselineObjectiveConfig(PCConfig(completion=True), ENCODER)}


@pytest.mark.parametrize("name", sample_cases(FULL, ("gc-star", "ec", "pc")))
def test_full_size_learns_at_256(name: str) -> None:
    of = build_objective(FULL[name], {})
    inpaint = find_phase(of, "inpaint")
    outputs = of.stages[-1].forward(Inputs(*make_masked_pictures(256, 1), SampleNoise(0, [(0, 0)]), {}))
    parameters = [p for network in inpaint.trains for p in of.networks[network].parameters()]
    gradients = torch.autograd.grad(total(inpaint, outputs), parameters, allow_unused=True)
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_sizes_are_those_of_the_authors_releases() -> None:
    assert num_parameters(GCConfig()) == pytest.approx(4.05e6, rel=0.02)
    with torch.device("meta"):
        generator = EdgeConnectGenerator(4, 3, ECConfig(), completion=False)
    biases = 64 + 128 + 256 + 16 * 256 + 128 + 64  # before normalisations, which take them off: ours has none
    assert sum(p.numel() for p in generator.parameters()) + biases == 10_774_595
    assert num_parameters(PCConfig()) == pytest.approx(25.8e6, rel=0.02)


@torch.no_grad()
def test_completion_blocks_of_unlike_width_share_predictors_and_change_holes_alone() -> None:
    blocks = CompletionBlocks((4, 8))
    blocks.adaptive.begin_as_box()
    mask = make_masked_pictures(16)[1]
    for level, channels in enumerate((4, 8)):
        x = torch.rand(2, channels, 8 >> level, 8 >> level)
        completed, hole = blocks(x, mask, level), reduce_hole(mask, x).expand_as(x) == 1
        assert torch.equal(completed[~hole], x[~hole])
        assert bool((completed[hole] > x[hole]).all())  # a box filter of positive values is added
    assert sum("offset.weight" in name for name, _ in blocks.named_parameters()) == 1


@torch.no_grad()
def test_contextual_attention_pastes_known_patches_alone() -> None:
    x, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    attention = ContextualAttention()
    before = attention(x, mask)[0]
    other = x.clone()
    other[..., 0:4] = torch.rand(1, 3, 16, 4)  # far from what is known: as a key it is hidden
    changed = (attention(other, mask)[0] - before).abs().amax(dim=(0, 1, 2))
    assert float(changed[8:].max()) < 1e-6


@torch.no_grad()
def test_contextual_attention_of_one_pattern_gives_it_back() -> None:
    x = torch.ones(1, 2, 16, 16)
    attended, query, key = ContextualAttention()(x, torch.zeros(1, 1, 16, 16))
    assert torch.allclose(attended[..., 4:12, 4:12], x[..., 4:12, 4:12], atol=1e-2)
    shares = torch.softmax(query @ key.mT, dim=2)
    assert torch.allclose(shares.sum(dim=2), torch.ones(1, 64))


@torch.no_grad()
@pytest.mark.parametrize("known", [0.0, 1.0, 0.3])
def test_a_partial_convolution_of_known_pixels_is_what_its_formula_says(known: float) -> None:
    layer, x = PartialConvolution(2, 3, 3), torch.rand(1, 2, 6, 6)
    nn.init.normal_(layer.bias)
    valid = (torch.rand(1, 1, 6, 6) < known).float()
    y, reached = layer(x * valid, valid)
    weight = layer.convolution.weight
    padded, patch = F.pad(x * valid, (1, 1, 1, 1)), F.pad(valid, (1, 1, 1, 1))
    for row in range(6):
        for column in range(6):
            count = float(patch[0, 0, row : row + 3, column : column + 3].sum())
            total = (weight * padded[0, :, row : row + 3, column : column + 3]).sum(dim=(1, 2, 3))
            exact = total * 9 / count + layer.bias.flatten() if count else torch.zeros(3)
            assert torch.allclose(y[0, :, row, column], exact, atol=1e-4)
            assert float(reached[0, 0, row, column]) == (count > 0)


@torch.no_grad()
def test_edges_are_steep_places_of_what_is_known() -> None:
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 5, 0] = 1
    edges = find_edges(image, mask)
    assert edges[0, 0, 2].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    mask[..., 2, 4] = 1
    assert find_edges(image, mask)[0, 0, 2].tolist() == [0] * 8


@torch.no_grad()
def test_given_edges_are_read_outside_the_hole_alone() -> None:
    network, (image, mask) = EC(SMALL["ec"]), make_masked_pictures()
    edge = (torch.rand(2, 1, 32, 32) > 0.8).float()
    before = network(image, mask, edge)["predicted"]
    assert torch.equal(network(image, mask, edge * (1 - mask))["predicted"], before)
    assert not torch.equal(network(image, mask, 1 - edge)["predicted"], before)


def test_widths_without_kernels_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"widths are \(4, 8\), kernels \(3,\), num_distilled_levels is 2: give one kernel for each width",
    ):
        PCConfig((4, 8), (3,), 2)


@pytest.mark.parametrize("network", [ECConfig(), PCConfig()], ids=lambda c: type(c).__name__)
def test_attention_transfer_is_for_a_backbone_with_attention(network: Any) -> None:
    with pytest.raises(ValueError, match=f"transfer is on and a {type(network).__name__} has no attention"):
        BaselineObjectiveConfig(network, ATTENTION)


@pytest.mark.parametrize(
    ("name", "own", "taught"),
    [
        ("gc", {"l1_out", "l1_coarse"}, set()),
        ("gc*", {"l1_out", "l1_coarse"}, {"cross", "self"}),
        ("gc-dagger", {"l1_out", "l1_coarse"}, {"attention"}),
        ("ec", {"l1_out", "edge"}, set()),
        ("ec*", {"l1_out", "edge"}, {"cross", "self"}),
        ("ec#", {"l1_out"}, {"cross", "self"}),
        ("pc", {"l1_out"}, set()),
        ("pc*", {"l1_out"}, {"cross", "self"}),
    ],
)
def test_a_row_of_table_3_has_its_own_terms_and_its_lessons(name: str, own: set[str], taught: set[str]) -> None:
    of = objective(name)
    inpaint, *guides = of.stages[-1].phases
    assert set(inpaint.weights) == own | taught
    assert bool(guides) == bool(taught)
    assert all(isinstance(guide, BilevelPhase) and set(guide.weights) == own for guide in guides)
    completion = [n for n, _ in of.networks["generator"].named_parameters() if "completion" in n]
    assert bool(completion) == ("cross" in taught)


def test_teaching_reaches_the_coarse_network_of_gc_alone() -> None:
    of = build_objective(CONFIGS["gc*"], {})
    inpaint = of.stages[-1].phases[0]
    assert isinstance(inpaint, Phase)
    cross = inpaint.terms(of.stages[-1].forward(inputs()))["cross"]
    network = of.networks["generator"]
    assert isinstance(network, GC)
    named = list(network.named_parameters())
    gradients = torch.autograd.grad(cross, [p for _, p in named], allow_unused=True)
    reached = {
        n.split(".")[0] + "." + n.split(".")[1] for (n, _), g in zip(named, gradients, strict=True) if g is not None
    }
    assert reached == {"coarse.levels", "coarse.completion"}


def test_teachers_see_whole_pictures_and_compare_the_students_keys() -> None:
    of = build_objective(CONFIGS["gc-dagger"], {})
    o = of.stages[-1].forward(inputs())
    teacher = of.networks["auxiliary"]
    whole = teacher(inputs().image, torch.zeros(2, 1, 32, 32), inputs().mask)
    assert torch.equal(o["teacher_encoded_1"], whole["encoded_1"])
    assert torch.equal(o["teacher_key_1"][..., -1], o["key_1"][..., -1])


def test_table_3_has_ready_guidance() -> None:
    assert (ENCODER.terms, ATTENTION.terms) == (("cross", "self"), ("attention",))
    assert isinstance(build_backbone(SMALL["pc"]), PC)
