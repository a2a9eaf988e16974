"""The learning step of SPN and SPL: its stages, whom each phase trains, and what its terms are worth."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from infra.world import World
from nets import build_objective
from nets.losses import hole_weighted_l1
from nets.objective import Objective, Outputs, Phase
from nets.spn.network import SPNConfig
from nets.spn.objective import SPNObjectiveConfig
from pipelines.training.recipe import AdamConfig
from pipelines.training.state import TrainState
from pipelines.training.updates import Updater
from tests.making import train_recipe
from tests.nets.configs import CONFIGS, WEIGHTS
from tests.nets.objectives import inputs, objective, total

SPN_KINDS = [name for name in CONFIGS if name.startswith("sp")]
EACH = pytest.mark.parametrize("name", SPN_KINDS)


def phase(of: Objective, name: str, stage: int = 0) -> Phase:
    (found,) = (p for p in of.stages[stage].phases if p.name == name)
    assert isinstance(found, Phase)
    return found


def step(of: Objective, stage: int = 0, **changes: Any) -> Outputs:
    return of.stages[stage].forward(replace(inputs(), **changes))


def gradients(of: Objective, name: str, network: str, stage: int = 0) -> list[Tensor | None]:
    loss = total(phase(of, name, stage), step(of, stage))
    return list(torch.autograd.grad(loss, list(of.networks[network].parameters()), allow_unused=True))


@EACH
def test_the_critic_learns_first_and_each_phase_trains_its_own(name: str) -> None:
    for stage in objective(name).stages:
        assert [p.name for p in stage.phases] == ["criticise", "generate"]
        assert stage.phases[0].trains == ("critic",)
        assert stage.phases[1].trains[0] == "generator"


@EACH
def test_what_the_critic_learns_does_not_reach_the_generator(name: str) -> None:
    of = objective(name)
    assert all(g is None for g in gradients(of, "criticise", "generator"))
    assert any(g is not None for g in gradients(of, "generate", "generator"))


@EACH
def test_both_phases_may_follow_each_other_on_one_run_of_the_generator(name: str) -> None:
    runs: list[int] = []
    of = objective(name)
    of.networks["generator"].register_forward_hook(lambda *_: runs.append(1))
    outputs = step(of)
    for one in of.stages[0].phases:
        assert isinstance(one, Phase)
        parameters = [p for network in one.trains for p in of.networks[network].parameters()]
        torch.autograd.grad(total(one, outputs), parameters, allow_unused=True)
    assert len(runs) == 1


def test_distillation_ends_at_its_clock_and_heads_are_left_alone_from_then_on() -> None:
    of = objective("spn")
    assert [of.find_stage(images).name for images in (0, 15, 16, 10**9)] == ["distillation"] * 2 + ["adversarial"] * 2
    assert phase(of, "generate", 0).trains == ("generator", "heads")
    assert phase(of, "generate", 1).trains == ("generator",)
    assert {"prior_3", "prior_2", "prior_1"} <= set(phase(of, "generate", 0).weights)
    assert not any(term.startswith("prior") for term in phase(of, "generate", 1).weights)


def test_the_target_is_not_run_when_it_has_no_say() -> None:
    runs: list[int] = []
    of = objective("spn")
    of.teachers["target"].register_forward_hook(lambda *_: runs.append(1))
    step(of, 1)
    assert runs == []
    step(of, 0)
    assert runs == [1]


def test_without_a_pretext_there_are_no_heads_and_one_stage() -> None:
    of = objective("spn-without-pretext")
    assert set(of.networks) == {"generator", "critic"}
    assert of.teachers == {}
    assert len(of.stages) == 1


@pytest.mark.parametrize(("name", "scales"), [("spn", {"3", "2", "1"}), ("spn-one-scale", {"3"}), ("spl", {"3"})])
def test_priors_of_the_networks_scales_are_distilled(name: str, scales: set[str]) -> None:
    terms = phase(objective(name), "generate").weights
    assert {t.removeprefix("prior_") for t in terms if t.startswith("prior_")} == scales


def test_teachers_get_no_gradient_and_stay_as_they_are() -> None:
    of = objective("spn-probabilistic")
    assert set(of.teachers) == {"features", "target"}
    assert not any(p.requires_grad for teacher in of.teachers.values() for p in teacher.parameters())
    assert not step(of)["target_prior_3"].requires_grad
    assert step(of)["told_prior_3"].requires_grad


def test_weights_are_those_of_the_paper() -> None:
    of = build_objective(SPNObjectiveConfig(CONFIGS["spn"].network, CONFIGS["spn"].target), {})
    assert phase(of, "criticise").weights == {"critic": 0.5}
    assert phase(of, "generate").weights == {
        "prior_3": 1.0, "prior_2": 1.0, "prior_1": 1.0, "image": 10.0, "adversarial": 1.0
    }  # fmt: skip


def test_weights_of_the_probabilistic_network_are_those_of_the_paper() -> None:
    of = objective("spn-probabilistic")
    assert phase(of, "criticise").weights == {"critic": 0.5}
    assert phase(of, "generate").weights == {
        "prior_3": 1.0, "prior_2": 1.0, "prior_1": 1.0, "image": 10.0, "adversarial": 1.0, "feature_matching": 10.0,
        "perceptual": 10.0, "diversity": 1.0, "divergence": 0.05,
    }  # fmt: skip


def test_files_are_those_of_the_terms_that_count() -> None:
    plain, drawn = SPNObjectiveConfig(), SPNObjectiveConfig(replace(CONFIGS["spn"].network, probabilistic=True))
    assert plain.needs_weights == ("tresnet_l_openimages",)
    assert drawn.needs_weights == ("tresnet_l_openimages", "vgg19_features")
    assert replace(drawn, perceptual_weight=0.0).needs_weights == drawn.needs_weights
    assert replace(drawn, perceptual_weight=0.0, diversity_weight=0.0, target=None).needs_weights == ()
    assert CONFIGS["spn"].needs_weights == ()


def test_features_that_do_not_count_are_not_compared() -> None:
    config = replace(CONFIGS["spn-probabilistic"], perceptual_weight=0.0, diversity_weight=0.0)
    of = build_objective(config, {})
    assert "features" not in of.teachers
    assert not {"perceptual", "diversity"} & set(phase(of, "generate").weights)


def flat(mask: Tensor, **levels: float) -> Outputs:
    """Constant pictures by name beside a mask."""
    pictures = {name: torch.full((len(mask), 3, *mask.shape[2:]), level) for name, level in levels.items()}
    return pictures | {"mask": mask}


@pytest.mark.parametrize(("mode", "loss"), [("paper", 0.25 * (1 + 4 * 0.25)), ("code", 0.25 * (1 + 2 * 0.25))])
def test_errors_in_a_hole_of_a_quarter_count_as_much_as_the_paper_or_the_code_says(mode: str, loss: float) -> None:
    of = build_objective(replace(CONFIGS["spn-without-pretext"], mode=mode), {})
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16, :16] = 1
    outputs = flat(mask, image=0.5, predicted=0.75)
    assert phase(of, "generate").terms(outputs)["image"].item() == pytest.approx(loss)


def test_errors_of_a_prior_count_four_times_in_the_hole() -> None:
    of = objective("spl")
    outputs = step(of)
    told, target = outputs["told_prior_3"], outputs["target_prior_3"]
    mask = outputs["mask"][..., ::4, ::4]  # nearest neighbours
    by_hand = ((told - target).abs() * (1 + 3 * mask)).mean()
    assert phase(of, "generate").terms(outputs)["prior_3"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_map_of_half_the_size_stands_for_the_finest_scale() -> None:
    of = objective("spn")
    outputs = step(of)
    assert outputs["target_prior_1"].shape[2:] == (16, 16)
    target = outputs["target_prior_1"].repeat_interleave(2, 2).repeat_interleave(2, 3)
    by_hand = hole_weighted_l1(outputs["told_prior_1"], target, outputs["mask"], 4.0)
    assert phase(of, "generate").terms(outputs)["prior_1"].item() == pytest.approx(by_hand.item())


def test_two_samples_of_each_picture_are_drawn_from_the_noise_of_its_place() -> None:
    of = objective("spn-probabilistic")
    outputs, again = step(of), step(of)
    assert outputs["predicted"].shape[0] == 4
    assert outputs["image"].shape[0] == 2
    assert torch.equal(outputs["predicted"], again["predicted"])
    first, second = outputs["prior_3"].chunk(2)
    assert not torch.allclose(first, second)
    swapped = step(of, image=inputs().image.flip(0), mask=inputs().mask.flip(0))
    assert not torch.allclose(swapped["prior_3"][:2], first.flip(0))  # other places, other noise


def test_both_samples_count_and_real_pictures_are_compared_with_each() -> None:
    of = objective("spn-probabilistic")
    outputs = step(of)
    terms = phase(of, "generate").terms(outputs)
    first, second = outputs["predicted"].chunk(2)
    image, mask = outputs["image"], outputs["mask"]
    each = [hole_weighted_l1(sample, image, mask, 5.0) for sample in (first, second)]
    assert terms["image"].item() == pytest.approx((sum(each) / 2).item(), rel=1e-5)  # type: ignore[union-attr]
    swapped = phase(of, "generate").terms(outputs | {"predicted": torch.cat([second, first])})
    for name in ("image", "feature_matching", "perceptual", "diversity"):
        assert swapped[name].item() == pytest.approx(terms[name].item(), rel=1e-3), name


def test_a_perfect_fill_has_no_image_no_matching_and_no_perceptual_loss() -> None:
    of = objective("spn-probabilistic")
    outputs = step(of)
    perfect = outputs | {"predicted": outputs["image"].repeat(2, 1, 1, 1)}
    terms = phase(of, "generate").terms(perfect)
    for name in ("image", "perceptual"):
        assert terms[name].item() == pytest.approx(0, abs=1e-6), name
    assert terms["diversity"].item() == pytest.approx(1e5, rel=1e-3)  # two equal samples


def test_the_raw_prediction_is_judged() -> None:
    of = objective("spn")
    outputs = step(of)
    other = outputs | {"predicted": outputs["predicted"] + 0.5 * (1 - outputs["mask"])}
    for name, term in (("generate", "adversarial"), ("criticise", "critic")):
        judged = [phase(of, name).terms(o)[term].item() for o in (outputs, other)]
        assert judged[0] != judged[1]


@pytest.mark.parametrize("name", ["spn", "spn-probabilistic", "spl"])
def test_updates_bring_the_prediction_and_the_priors_nearer(name: str) -> None:
    networks = ("generator", "heads", "critic")
    without = {"perceptual_weight": 0.0, "diversity_weight": 0.0, "feature_matching_weight": 0.0}
    config = replace(CONFIGS[name], prior_until_images=None, **without)
    recipe = train_recipe(objective=config, optimizers=dict.fromkeys(networks, AdamConfig(2e-3)))
    updater = Updater(recipe, TrainState(recipe), World())
    of = updater.state.objective
    rows = []
    for _ in range(15):
        outputs = step(of)
        rows.append({k: float(t) for p in of.stages[0].phases for k, t in updater.update(p, outputs).items()})  # type: ignore[arg-type]
    assert rows[-1]["image"] < 0.95 * rows[0]["image"]
    assert rows[-1]["prior_3"] < 0.95 * rows[0]["prior_3"]


def test_unlike_modes_differ_in_the_terms_that_the_docstring_names() -> None:
    terms = {}
    for mode in ("paper", "code"):
        torch.manual_seed(0)
        of = build_objective(replace(CONFIGS["spn-probabilistic"], mode=mode), WEIGHTS)
        terms[mode] = {name: t.item() for name, t in phase(of, "generate").terms(step(of)).items()}
    differ = {n for n in terms["paper"] if terms["paper"][n] != pytest.approx(terms["code"][n], rel=1e-4)}
    assert differ == {"image", "perceptual", "diversity", "divergence"}


@pytest.mark.slow
def test_the_papers_diversity_pulls_no_more_than_a_hundred_times_as_hard_as_the_image_term_at_the_start() -> None:
    """The paper's own network and a hole of a quarter; with means for the printed norms it is hundreds of thousands."""
    torch.manual_seed(0)
    of = build_objective(SPNObjectiveConfig(SPNConfig(probabilistic=True), target=None, mode="paper"), WEIGHTS)
    image = F.interpolate(torch.rand(2, 3, 4, 4), size=(64, 64), mode="bilinear")
    mask = F.pad(torch.ones(2, 1, 32, 32), (16, 16, 16, 16))
    outputs = of.stages[0].forward(replace(inputs(), image=image, mask=mask))
    generate, pulls = phase(of, "generate"), {}
    terms = generate.terms(outputs)
    for name in ("image", "diversity"):
        loss = generate.weights[name] * terms[name]
        pulls[name] = torch.autograd.grad(loss, outputs["predicted"], retain_graph=True)[0].norm().item()
    assert 1 < pulls["diversity"] / pulls["image"] < 100
