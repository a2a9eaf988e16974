"""The learning step of every objective: which phase trains which network, and what its terms are worth."""

from typing import Any

import pytest
import torch
from torch import Tensor

from infra.world import World
from nets import OBJECTIVES
from nets.objective import BilevelPhase, Inputs, Objective, Outputs
from pipelines.noise import SampleNoise
from pipelines.training.recipe import AdamConfig
from pipelines.training.state import TrainState
from pipelines.training.updates import NonFiniteError, Updater
from tests.making import train_recipe
from tests.nets.configs import CONFIGS
from tests.nets.objectives import inputs, objective, find_phase, phases, run, total


def stirred(of: Objective) -> Objective:
    """The same with random biases in all but the generator, and in critics larger ones and larger weights.

    At first a critic's scores are so much alike that the pulls of real and fake on its last biases are exactly nothing.
    """
    with torch.no_grad():
        for name, network in of.networks.items():
            scale = 10 if "critic" in name else 1
            for parameter in network.parameters() if name != "generator" else ():
                if parameter.dim() == 1:
                    parameter.normal_(std=scale)
                else:
                    parameter.mul_(scale)
    return of


def updates(**changes: Any) -> Updater:
    """The updates of the tiny training."""
    recipe = train_recipe(**changes)
    return Updater(recipe, TrainState(recipe), World())


def weights_of(state: TrainState, name: str) -> list[Tensor]:
    """Copies of a network's parameters."""
    return [p.detach().clone() for p in state.objective.networks[name].parameters()]


def changed(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether any tensor is another."""
    return any(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


NAMES = pytest.mark.parametrize("name", list(CONFIGS))


def reached(of: Objective) -> set[str]:
    """The parameters that get a gradient in some phase; of a bilevel one those that its inner phase knows."""
    found: set[str] = set()
    for stage, phase in phases(of):
        names = [f"{n}.{p}" for n in phase.trains for p, _ in of.networks[n].named_parameters()]
        parameters = [p for n in phase.trains for p in of.networks[n].parameters()]
        minimised = phase.inner if isinstance(phase, BilevelPhase) else phase
        gradients = torch.autograd.grad(total(minimised, stage.forward(inputs())), parameters, allow_unused=True)
        pairs = zip(names, gradients, strict=True)
        found |= {name for name, g in pairs if g is not None and bool(g.abs().sum() > 0)}
    return found


def test_every_kind_of_objective_is_tested() -> None:
    assert {type(config) for config in CONFIGS.values()} == set(OBJECTIVES)


@NAMES
def test_every_parameter_gets_a_gradient_in_some_phase(name: str) -> None:
    of = stirred(objective(name))
    assert reached(of) == {f"{n}.{p}" for n, network in of.networks.items() for p, _ in network.named_parameters()}


@NAMES
def test_every_term_of_every_phase_has_a_weight_and_is_a_finite_scalar(name: str) -> None:
    for stage, phase in phases(objective(name)):
        terms = phase.terms(stage.forward(inputs()))
        assert terms.keys() == phase.weights.keys()
        assert all(term.shape == () and bool(torch.isfinite(term)) for term in terms.values())


def halves(given: Inputs) -> list[Inputs]:
    """The two samples apart, as two ranks have them."""
    return [
        Inputs(given.image[n : n + 1], given.mask[n : n + 1], SampleNoise(1, [(n, 0)]),
               {name: plane[n : n + 1] for name, plane in given.planes.items()})
        for n in range(2)
    ]  # fmt: skip


@NAMES
def test_the_mean_over_ranks_is_what_one_rank_computes(name: str) -> None:
    of = objective(name)
    for network in of.networks.values():
        network.eval()  # spectral norms of critics stay as they are
    for stage, phase in phases(of):
        whole = phase.terms(stage.forward(inputs()))
        parts = [phase.terms(stage.forward(half)) for half in halves(inputs())]
        for term, value in whole.items():
            mean = sum(part[term].item() for part in parts) / 2
            assert mean == pytest.approx(value.item(), rel=1e-4, abs=1e-6), (phase.name, term)


@NAMES
def test_stages_follow_each_other_and_the_last_has_no_end(name: str) -> None:
    ends = [stage.until_images for stage in objective(name).stages]
    assert ends[-1] is None
    assert ends[:-1] == sorted(e for e in ends[:-1] if e is not None)


@NAMES
def test_phases_train_networks_that_there_are(name: str) -> None:
    of = objective(name)
    assert {trains for _, phase in phases(of) for trains in phase.trains} == set(of.networks)


@pytest.mark.parametrize(
    ("images_seen", "stage"), [(0, "warm-up"), (15, "warm-up"), (16, "adversarial"), (10**9, "adversarial")]
)
def test_critics_join_in_when_the_warm_up_ends(images_seen: int, stage: str) -> None:
    assert objective().find_stage(images_seen).name == stage


@pytest.mark.parametrize(
    ("phase", "trained", "untouched"),
    [("reconstruct", "generator", "critic"), ("generate", "generator", "critic"), ("criticise", "critic", "generator")],
)
def test_an_update_changes_the_networks_of_its_phase_alone(phase: str, trained: str, untouched: str) -> None:
    updater = updates()
    state = updater.state
    before = {name: weights_of(state, name) for name in state.objective.networks}
    updater.update(find_phase(state.objective, phase), run(state.objective))
    assert changed(before[trained], weights_of(state, trained))
    assert not changed(before[untouched], weights_of(state, untouched))


def test_generator_phase_leaves_no_gradient_on_the_critic_and_the_other_way_round() -> None:
    updater = updates()
    objective = updater.state.objective
    networks, outputs = objective.networks, run(objective)
    updater.update(find_phase(objective, "generate"), outputs)
    assert all(p.grad is None for p in networks["critic"].parameters())
    assert all(p.grad is not None for p in networks["generator"].parameters())
    before = [p.grad for p in networks["generator"].parameters()]
    updater.update(find_phase(objective, "criticise"), outputs)
    assert all(p.grad is not None for p in networks["critic"].parameters())
    assert all(b is p.grad for b, p in zip(before, networks["generator"].parameters(), strict=True))


def test_both_adversarial_updates_come_from_one_run_of_the_generator() -> None:
    updater, runs = updates(), []
    objective = updater.state.objective
    objective.networks["generator"].register_forward_hook(lambda *_: runs.append(1))
    outputs = run(objective)
    for name in ("generate", "criticise"):
        updater.update(find_phase(objective, name), outputs)
    assert len(runs) == 1


def test_critic_terms_do_not_reach_the_generator() -> None:
    of = objective()
    loss = total(find_phase(of, "criticise"), run(of))
    gradients = torch.autograd.grad(loss, list(of.networks["generator"].parameters()), allow_unused=True)
    assert all(g is None for g in gradients)


def test_updates_in_the_warm_up_bring_the_prediction_nearer() -> None:
    updater = updates(optimizers={"generator": AdamConfig(5e-4), "critic": AdamConfig(5e-4)})
    phase = find_phase(updater.state.objective, "reconstruct")
    losses = [float(updater.update(phase, run(updater.state.objective))["l1_out"]) for _ in range(6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_gradients_are_clipped_to_the_norm_of_the_recipe() -> None:
    updater = updates(optimizers=dict.fromkeys(("generator", "critic"), AdamConfig(1e-3, clip_norm=1e-3)))
    objective = updater.state.objective
    terms = updater.update(find_phase(objective, "reconstruct"), run(objective))
    gradients = [p.grad for p in objective.networks["generator"].parameters() if p.grad is not None]
    assert float(terms["gradient_norm_reconstruct"]) > 0.01
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(1e-3, rel=0.01)


def test_a_term_that_is_no_number_stops_before_anything_is_updated() -> None:
    updater = updates()
    state = updater.state
    before, outputs = weights_of(state, "generator"), run(state.objective)
    broken = outputs | {"coarse": outputs["coarse"] * float("nan")}
    with pytest.raises(NonFiniteError, match="not finite: l1_coarse on rank 0, in phase 'reconstruct' at 0 images"):
        updater.update(find_phase(state.objective, "reconstruct"), broken)
    assert not changed(before, weights_of(state, "generator"))


def test_terms_of_a_constant_picture_are_what_one_reckons() -> None:
    of = objective()
    image, mask = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
    mask[..., :16, :] = 1
    flat: Outputs = {"image": image, "mask": mask, "coarse": image + 0.1, "predicted": image - 0.2}
    flat |= {"low": torch.full((1, 3, 8, 8), 0.5), "inpainted": image, "masked": image * (1 - mask) + mask}
    terms = find_phase(of, "reconstruct").terms(flat)
    assert terms["l1_coarse"].item() == pytest.approx(5 * 0.05 + 0.05)
    assert terms["l1_out"].item() == pytest.approx(5 * 0.1 + 0.1)
    assert terms["l1_low"].item() == pytest.approx(0, abs=1e-6)
    assert find_phase(of, "generate").terms(flat)["total_variation"].item() == 0


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = TrainState(train_recipe())
    torch.manual_seed(2)
    again, other = TrainState(train_recipe()), TrainState(train_recipe(seed=1))
    assert not changed(weights_of(one, "generator"), weights_of(again, "generator"))
    assert not changed(weights_of(one, "critic"), weights_of(again, "critic"))
    assert changed(weights_of(one, "generator"), weights_of(other, "generator"))
