"""The terms of DGI against numbers worked by hand and against formulas written once more in double precision."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nets import build_objective
from nets.distill.confidence import compute_confidence
from nets.distill.distillation import Attended, Distillation, Features
from nets.distill.meta import Alignment, MetaNetworks
from nets.distill.network import AuxiliaryNetwork
from nets.distill.objective import VARIANTS, DistillObjectiveConfig, compute_inpainting_terms, make_variant
from nets.features import VGGFeatures
from nets.losses import confidence_weighted_l1, gram, importance_weighted_l2
from nets.objective import BilevelPhase, Objective, Phase
from tests.nets.configs import SMALL_DISTILL
from tests.nets.objectives import inputs
from tests.nets.references import compare_whole_matrices
from tests.weights import random_vgg


def make_centered_hole(side: int, hole: int) -> Tensor:
    """A square hole in the middle of a square."""
    mask = torch.zeros(1, 1, side, side)
    start = (side - hole) // 2
    mask[..., start : start + hole, start : start + hole] = 1
    return mask


@pytest.mark.parametrize(
    ("blur", "edge", "corner", "middle", "mean"), [("code", 0.85, 0.96, 0.50, 0.73), ("paper", 0.84, None, 0.45, 0.71)]
)
def test_confidence_of_a_centered_square_is_what_was_measured(
    blur: Any, edge: float, corner: float | None, middle: float, mean: float
) -> None:
    w = compute_confidence(make_centered_hole(256, 128), blur=blur)[0, 0]
    assert w[64, 128].item() == pytest.approx(edge, abs=0.006)
    assert corner is None or w[64, 64].item() == pytest.approx(corner, abs=0.006)
    assert w[128, 128].item() == pytest.approx(middle, abs=0.006)
    assert w[64:192, 64:192].mean().item() == pytest.approx(mean, abs=0.006)


@pytest.mark.parametrize("blur", ["paper", "code"])
def test_confidence_lies_in_the_hole_and_is_symmetric(blur: Any) -> None:
    mask = make_centered_hole(32, 14)
    w = compute_confidence(mask, 9, blur)
    assert not w[mask == 0].any()
    assert float(w[mask == 1].min()) > 0
    assert float(w.max()) < 1
    assert torch.allclose(w, w.flip(2), atol=1e-6)
    assert torch.allclose(w, w.mT, atol=1e-6)


def test_confidence_of_one_pixel_after_seven_rounds_is_reckoned() -> None:
    mask, w = torch.zeros(1, 1, 5, 5), 0.0
    mask[..., 2, 2] = 1
    for _ in range(7):
        w = (w + 8) / 9
    assert compute_confidence(mask, 3)[0, 0, 2, 2].item() == pytest.approx(w)


@pytest.mark.parametrize(("kernel", "side"), [(8, 32), (65, 32), (11, 5)])
def test_a_kernel_that_does_not_fit_is_refused(kernel: int, side: int) -> None:
    with pytest.raises(ValueError, match=f"the kernel is {kernel} px wide, the mask {side}x{side}"):
        compute_confidence(make_centered_hole(side, 3), kernel)


def test_reconstruction_is_what_one_reckons() -> None:
    mask = torch.tensor([[[[1.0, 0, 0, 0]]], [[[1.0, 1, 0, 0]]]])
    image, predicted = torch.zeros(2, 3, 1, 4), torch.full((2, 3, 1, 4), 0.2)
    first, second = 0.2 * 0.5 + 0.2, 0.2 * 0.5 + 0.2
    assert confidence_weighted_l1(predicted, image, mask, 0.5 * mask).item() == pytest.approx((first + second) / 2)
    assert confidence_weighted_l1(predicted, image, mask, mask * 0).item() == pytest.approx(0.2)


@pytest.mark.parametrize("whole", [0.0, 1.0])
def test_reconstruction_of_no_hole_and_of_nothing_but_hole_is_finite(whole: float) -> None:
    mask = torch.full((1, 1, 4, 4), whole)
    loss = confidence_weighted_l1(torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4), mask, mask)
    assert loss.item() == pytest.approx(0.5)


def test_channels_count_by_their_importance_and_positions_by_the_mask() -> None:
    of, target = torch.tensor([[[[1.0, 5.0]], [[2.0, 7.0]]]]), torch.zeros(1, 2, 1, 2)
    mask, importance = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[0.25, 0.75]])
    loss = importance_weighted_l2(of, target, importance, mask)
    assert loss.item() == pytest.approx(0.25 * 1 / 2 + 0.75 * 4 / 2)


def make_encoder_features(batch: int = 2, channels: tuple[int, ...] = (4, 4, 4), side: int = 16) -> list[Tensor]:
    """Random features of an encoder's levels in float64."""
    return [torch.randn(batch, c, side >> n, side >> n, dtype=torch.float64) for n, c in enumerate(channels)]


def make_attentions(number: int) -> list[Attended]:
    """Random queries, keys and features of attentions at 8x8."""
    rows = [(torch.randn(2, 64, 3), torch.randn(2, 16, 3), torch.randn(2, 4, 8, 8)) for _ in range(number)]
    return [Attended(*(t.double() for t in row)) for row in rows]


def stir(meta: MetaNetworks) -> MetaNetworks:
    """In float64 with random weights."""
    for parameter in meta.double().parameters():
        parameter.data.normal_()
    return meta


def compute_importance(of: nn.Module, features: Tensor) -> Tensor:
    """Mean over positions, linear layer, softmax."""
    weight, bias = of.parameters()
    scores = (features.mean((2, 3)) @ weight.mT + bias).exp()
    return scores / scores.sum(1, keepdim=True)


@torch.no_grad()
def test_all_terms_are_their_formulas() -> None:
    meta, alignment = stir(MetaNetworks([4] * 3, [4, 4])), Alignment([4] * 3).double()
    student, teacher, shares = (
        make_encoder_features(),
        make_encoder_features(),
        (make_attentions(2), make_attentions(2)),
    )
    mask = (torch.rand(2, 1, 32, 32) > 0.97).double()
    terms = Distillation(meta, alignment).terms(
        Features(student, shares[0]), Features(teacher, shares[1]), student[1:], mask
    )
    holes = [mask.unfold(2, 2 << n, 2 << n).unfold(3, 2 << n, 2 << n).amax(dim=(4, 5)) for n in range(3)]
    cross = within = attention = 0.0
    for n in range(3):
        rho = compute_importance(meta.rho[n], teacher[n])
        gap = ((student[n] - meta.gamma[n](teacher[n])) * holes[n]) ** 2
        cross += float((rho[:, :, None, None] * gap).sum(1).mean())
    for n in range(2):
        phi = compute_importance(meta.phi[n], student[n + 1])
        gap = ((alignment.layers[n](student[n]) - student[n + 1]) * holes[n + 1]) ** 2
        within += float((phi[:, :, None, None] * gap).sum(1).mean())
    hole = mask.unfold(2, 4, 4).unfold(3, 4, 4).amax(dim=(4, 5)).flatten(1)
    for n, (of, taught) in enumerate(zip(*shares, strict=True)):
        trust = torch.sigmoid(meta.t[n](taught.decoded)).flatten(1)
        total = compare_whole_matrices(of.query, of.key, taught.query, taught.key, trust, hole)
        attention += float((total / hole.sum(1)).mean())
    assert terms["cross"].item() == pytest.approx(cross, rel=1e-10)
    assert terms["self"].item() == pytest.approx(within, rel=1e-10)
    assert terms["attention"].item() == pytest.approx(attention, rel=1e-10)


@torch.no_grad()
def test_meta_networks_begin_as_if_they_were_not_there() -> None:
    meta, features = MetaNetworks([6, 6], [6]), torch.randn(2, 6, 4, 4)
    assert torch.equal(meta.gamma[0](features), features)
    for importance in (*meta.rho, *meta.phi):
        assert torch.allclose(importance(features), torch.full((2, 6), 1 / 6))
    assert torch.allclose(meta.trust(0, features), torch.full((2, 16), 0.8808), atol=1e-4)


@torch.no_grad()
def test_importances_of_channels_are_shares_whatever_was_learned() -> None:
    meta = stir(MetaNetworks([6, 6]))
    shares = meta.rho[0](torch.randn(5, 6, 4, 4, dtype=torch.float64))
    assert bool((shares >= 0).all())
    assert torch.allclose(shares.sum(1), torch.ones(5, dtype=torch.float64))


def build_small(**changes: Any) -> Objective:
    """The smallest training of DGI."""
    return build_objective(replace(SMALL_DISTILL, **changes), {"vgg16_features": random_vgg(16)})


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    meta, features = (
        MetaNetworks([4] * 2, [4]).double(),
        Features(make_encoder_features(channels=(4, 4)), make_attentions(1)),
    )
    terms = Distillation(meta, None).terms(features, features, [], torch.ones(2, 1, 32, 32).double())
    assert {name: term.item() for name, term in terms.items()} == {"cross": 0.0, "attention": 0.0}


def test_style_compares_gram_matrices_of_prediction_and_composite() -> None:
    state = random_vgg(16)
    vgg, of = VGGFeatures(16, ("relu2_2", "relu3_3", "relu4_3"), state), inputs()
    predicted = torch.rand_like(of.image)
    o = {"image": of.image, "mask": of.mask, "predicted": predicted}
    o["inpainted"] = predicted * of.mask + of.image * (1 - of.mask)
    exact = 0.0
    for name, divisor in (("relu2_2", 2), ("relu3_3", 4), ("relu4_3", 8)):
        for picture in (predicted, o["inpainted"]):
            gap = (gram(vgg(picture)[name].double()) - gram(vgg(of.image)[name].double())).abs()
            exact += gap.mean().item() / divisor
    assert compute_inpainting_terms(vgg, 9, "code", o)["style"].item() == pytest.approx(exact, rel=1e-4)


def test_terms_and_weights_are_those_of_equation_11() -> None:
    inpaint, guide = build_small(style_weight=150.0).stages[1].phases
    assert inpaint.weights == {"l1_out": 1, "style": 150, "cross": 20, "self": 20, "attention": 20}
    assert guide.weights == {"l1_out": 1, "style": 150}
    assert inpaint.trains == ("generator", "alignment")
    assert guide.trains == ("meta",)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_has_the_terms_and_networks_of_its_parts(name: str) -> None:
    of = build_objective(make_variant(name, SMALL_DISTILL), {})
    cross, within, completion, attention, transfer, fusion = VARIANTS[name]
    terms = {"l1_out"} | {n for n, on in (("cross", cross), ("self", within), ("attention", transfer)) if on}
    assert set(of.stages[-1].phases[0].weights) == terms
    assert ("auxiliary" in of.networks) == (len(of.stages) == 2) == (cross or transfer)
    assert ("meta" in of.networks) == any(isinstance(p, BilevelPhase) for p in of.stages[-1].phases) == (len(terms) > 1)
    assert ("alignment" in of.networks) == within
    parts = {n.split(".")[1] for n, _ in of.networks["generator"].named_parameters()}
    assert ("completion" in parts, "local" in parts) == (completion, fusion)
    queries = [n for n, _ in of.networks["generator"].named_parameters() if "query" in n]
    assert bool(queries) == attention


def test_the_teacher_is_frozen_while_it_teaches() -> None:
    of = build_small()
    auxiliary = list(of.networks["auxiliary"].parameters())
    phase = of.stages[1].phases[0]
    assert isinstance(phase, Phase)
    loss = torch.stack(list(phase.terms(of.stages[1].forward(inputs())).values())).sum()
    assert all(g is None for g in torch.autograd.grad(loss, auxiliary, allow_unused=True))


def test_the_teacher_learns_to_reproduce_whole_pictures_before() -> None:
    of = build_small()
    stage, teacher = of.stages[0], of.networks["auxiliary"]
    assert isinstance(teacher, AuxiliaryNetwork)
    (phase,) = stage.phases
    terms = phase.terms(stage.forward(inputs()))
    error = (teacher(inputs().image)["predicted"] - inputs().image).abs().mean()
    assert terms["l1_teacher_predicted"].item() == pytest.approx(error.item())
    assert (stage.until_images, phase.trains) == (16, ("auxiliary",))


def test_transfer_without_attention_is_refused() -> None:
    network = replace(SMALL_DISTILL.network, attention=False, fusion=False)
    with pytest.raises(ValueError, match="attention_transfer is on, but the network has no attention"):
        DistillObjectiveConfig(network)


def test_an_unknown_variant_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown variant 'net9': use one of baseline, net1"):
        make_variant("net9", SMALL_DISTILL)
