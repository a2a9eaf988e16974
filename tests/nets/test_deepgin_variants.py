"""The variants of DeepGIN: the rows of Table 1 to the last parameter, track 2, and what each leaves out."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from nets.deepgin.network import DeepGIN, DeepGINConfig, SPDBlock, project_back
from nets.deepgin.objective import DeepGINObjectiveConfig
from nets.layers.attention import NonLocalAttention
from tests.nets.configs import CONFIGS
from tests.nets.objectives import find_phase, objective, run
from tests.nets.objectives import inputs as step_inputs
from tests.nets.pictures import make_masked_pictures
from tests.sampling import sample_cases

TABLE_1: dict[str, tuple[dict[str, Any], int]] = {
    "StdResBlk (coarse only)": ({"block": "standard", "coarse_only": True}, 8_167_843),
    "StdResBlk": ({"block": "standard", "attention": "none", "back_projection": False}, 40_849_990),
    "StdResBlk-SA": ({"block": "standard", "attention": "single", "back_projection": False}, 41_375_558),
    "StdResBlk-MSSA": ({"block": "standard", "back_projection": False}, 42_892_134),
    "DilatedResBlk-MSSA": ({"block": "dilated", "back_projection": False}, 42_892_134),
    "SPDResBlk-MSSA": ({"back_projection": False}, 42_892_134),
    "SPDResBlk-MSSA-BP": ({}, 42_930_186),
}
VARIANTS = pytest.mark.parametrize("variant", list(TABLE_1))
SMALL = DeepGINConfig(8, 1, 2)


def make_config(variant: str, of: DeepGINConfig = SMALL) -> DeepGINConfig:
    return replace(of, **TABLE_1[variant][0])


def build_stirred(config: DeepGINConfig) -> DeepGIN:
    """A network with weights that matter: five times the paper's initialization."""
    network = DeepGIN(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
    return network


@VARIANTS
def test_a_row_of_table_1_has_its_parameters(variant: str) -> None:
    with torch.device("meta"):
        network = DeepGIN(make_config(variant, DeepGINConfig()))
    assert sum(p.numel() for p in network.parameters()) == TABLE_1[variant][1]


def test_track_2_has_more_parameters_in_the_two_stems_only() -> None:
    with torch.device("meta"):
        one, two = DeepGIN(DeepGINConfig()), DeepGIN(DeepGINConfig(segmentation=True))
    shapes = {name: p.shape for name, p in one.named_parameters()}
    longer = {name: p.numel() - shapes[name].numel() for name, p in two.named_parameters() if p.shape != shapes[name]}
    assert longer == dict.fromkeys(("coarse.layers.0.0.weight", "refinement.stem.0.weight"), 3 * 32 * 7 * 7)


@VARIANTS
def test_forward_and_backward_reach_everything(variant: str) -> None:
    network, (image, mask) = build_stirred(make_config(variant)), make_masked_pictures(64)
    outputs = network(image, mask)
    expected = {"predicted", "inpainted"}
    expected |= {"coarse"} if network.refinement is not None else set()
    expected |= {"low"} if variant.endswith("BP") else set()
    assert set(outputs) == expected
    assert all(torch.isfinite(t).all() for t in outputs.values())
    total = torch.stack([(t - 0.5).square().mean() for t in outputs.values()]).sum()
    gradients = torch.autograd.grad(total, list(network.parameters()))
    flat = {name for (name, _), g in zip(network.named_parameters(), gradients, strict=True) if not g.abs().sum() > 0}
    assert {name for name in flat if not name.endswith("key.bias")} == set()  # softmax does not see a common key


FULL = {name: make_config(name, DeepGINConfig()) for name in TABLE_1} | {
    "track 2": DeepGINConfig(segmentation=True),
    "residual": DeepGINConfig(residual=True),
}


@pytest.mark.parametrize("variant", sample_cases(FULL, (tuple(TABLE_1)[-1], "track 2")))
def test_forward_and_backward_at_full_size(variant: str) -> None:
    network, (image, mask) = DeepGIN(FULL[variant]), make_masked_pictures(256, 1)
    outputs = network(image, mask, torch.rand_like(image))  # a map, which track 2 alone takes
    gradients = torch.autograd.grad(outputs["inpainted"].mean(), list(network.parameters()), allow_unused=True)
    assert outputs["inpainted"].shape == image.shape
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


@VARIANTS
def test_the_variant_has_its_blocks_and_its_attentions(variant: str) -> None:
    modules = list(DeepGIN(make_config(variant)).modules())
    branches = {len(m.branches) for m in modules if isinstance(m, SPDBlock)}
    num_attentions = sum(isinstance(m, NonLocalAttention) for m in modules)
    assert branches == ({8, 4} if variant.startswith("SPD") else {1})
    assert num_attentions == (3 if "MSSA" in variant else 1 if "SA" in variant else 0)


@torch.no_grad()
@pytest.mark.parametrize(("block", "reach"), [("standard", 2), ("dilated", 3)])
def test_a_block_reaches_as_far_as_its_two_convolutions(block: Any, reach: int) -> None:
    dilations = DeepGINConfig(block=block).choose_dilations((2, 3, 4, 5))
    block, x = SPDBlock(8, dilations), torch.rand(1, 8, 17, 17)
    other = x.clone()
    other[..., 8, 8] += 1
    rows, _ = torch.nonzero((block(x) - block(other)).abs().amax(dim=(0, 1)) > 1e-6, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (8 - reach, 8 + reach)


@torch.no_grad()
@VARIANTS
def test_pixels_under_the_mask_are_not_read(variant: str) -> None:
    network, (image, mask) = build_stirred(make_config(variant)), make_masked_pictures()
    hidden = torch.where(mask > 0, torch.rand_like(image), image)
    before, after = network(image, mask), network(hidden, mask)
    assert all(torch.equal(before[name], after[name]) for name in before)
    known = mask.expand_as(image) == 0
    assert torch.equal(before["inpainted"][known], image[known])


@torch.no_grad()
def test_a_map_is_seen_also_under_the_mask_by_track_2_alone() -> None:
    (image, mask), black = make_masked_pictures(), torch.zeros(2, 3, 32, 32)
    other = black.clone()
    other[..., 16, 10] = 1
    two = build_stirred(replace(SMALL, segmentation=True))
    assert not torch.equal(two(image, mask, black)["inpainted"], two(image, mask, other)["inpainted"])
    assert torch.equal(two(image, mask)["inpainted"], two(image, mask, black)["inpainted"])
    one = build_stirred(SMALL)
    assert torch.equal(one(image, mask, other)["inpainted"], one(image, mask)["inpainted"])


@torch.no_grad()
def test_both_stages_see_the_map() -> None:
    (image, mask), segmentation = make_masked_pictures(), torch.rand(2, 3, 32, 32)
    network = build_stirred(replace(SMALL, segmentation=True))
    before = network(image, mask, segmentation)
    assert network.refinement is not None
    network.refinement.stem[0].weight[:, 4:] = 0  # type: ignore[operator]
    assert torch.equal(network(image, mask, segmentation)["coarse"], before["coarse"])
    assert not torch.equal(network(image, mask, segmentation)["predicted"], before["predicted"])
    network.coarse.layers[0][0].weight[:, 4:] = 0  # type: ignore[index]
    assert not torch.equal(network(image, mask, segmentation)["coarse"], before["coarse"])


def test_back_projection_adds_what_the_small_picture_has_more() -> None:
    detail, alpha = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.25)
    corrected = project_back(detail, torch.full((1, 3, 2, 2), 0.6), alpha)
    assert torch.allclose(corrected, torch.full_like(detail, 0.2 + 0.25 * 0.4))
    assert torch.equal(project_back(detail, torch.full((1, 3, 2, 2), 0.6), 0 * alpha), detail)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("deepgin", {"l1_coarse", "l1_low", "l1_out"}),
        ("deepgin-standard", {"l1_coarse", "l1_out"}),
        ("deepgin-coarse-only", {"l1_out"}),
    ],
)
def test_every_picture_that_a_variant_makes_is_compared(name: str, terms: set[str]) -> None:
    of = objective(name)
    assert set(find_phase(of, "reconstruct").terms(run(of))) == terms


def test_track_2_does_not_train_without_its_maps() -> None:
    of, without = objective("deepgin-segmentation"), replace(step_inputs(), planes={})
    with pytest.raises(ValueError, match="no plane 'segmentation' in the batch: DeepGIN of track 2 trains with it"):
        of.stages[0].forward(without)


def test_configs_of_the_tests_hold_each_kind_of_part() -> None:
    networks = [c.network for c in CONFIGS.values() if isinstance(c, DeepGINObjectiveConfig)]
    assert {n.block for n in networks} == {"standard", "dilated", "spd"}
    assert {n.attention for n in networks} == {"none", "single", "multi"}
