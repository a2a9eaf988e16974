"""The bilevel update: its gradient beside that of exact unrolling, and that it leaves what it must leave."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from infra.world import World
from nets import build_objective
from nets.distill import distillation
from nets.layers import adaptive
from nets.objective import BilevelPhase, Inputs, Objective, Outputs, Phase, Stage, Terms
from pipelines.noise import SampleNoise
from pipelines.training.recipe import AdamConfig
from pipelines.training.state import TrainState
from pipelines.training.updates import NonFiniteError, Updater, shift_parameters, sum_weighted
from tests.making import train_recipe
from tests.nets.configs import SMALL_DISTILL
from tests.nets.references import convolve_by_taps, compare_whole_matrices
from tests.training.test_loop import ThreadWorld


def inputs(size_px: int = 16) -> Inputs:
    """Three random pictures with a box of hole, in float64."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(3, 1, size_px, size_px, dtype=torch.float64)
    mask[..., 4:11, 5:12] = 1
    image = torch.rand(3, 3, size_px, size_px, generator=generator, dtype=torch.float64)
    return Inputs(image, mask, SampleNoise(0, [(0, 0), (1, 0), (2, 0)]))


def toy(*, alpha: float = 0.1, direct: bool = False) -> Objective:
    """A student learns a picture and what a teacher says, as far as a judge lets it; the judge serves the picture."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).double()
    judge = nn.Conv2d(3, 1, 3, padding=1).double()

    def forward(of: Inputs) -> Outputs:
        return of.to_outputs() | {"predicted": student(of.image * (1 - of.mask))}

    def inner(o: Outputs) -> Terms:
        misled = torch.sigmoid(judge(o["image"])) * (o["predicted"] - o["image"].flip(1)).square()
        return {"picture": F.mse_loss(o["predicted"], o["image"]), "guided": misled.mean()}

    def outer(o: Outputs) -> Terms:
        own = {"own": judge(o["predicted"]).square().mean()} if direct else {}
        return {"picture": F.mse_loss(o["predicted"], o["image"])} | own

    phase = Phase("learn", ("generator",), inner, {"picture": 1.0, "guided": 3.0})
    weights = {"picture": 1.0} | ({"own": 0.5} if direct else {})
    guide = BilevelPhase("guide", ("meta",), phase, outer, weights, alpha)
    return Objective({"generator": student, "meta": judge}, (Stage("only", None, forward, (phase, guide)),))


@dataclass
class Small:
    """A training of an objective, and the gradients with which its last update was made."""

    updater: Updater
    phase: BilevelPhase
    stage: Stage

    @classmethod
    def of(cls, objective: Objective, world: World = World(), **changes: Any) -> "Small":  # noqa: B008 - frozen
        """With Adam for every network, and no clipping."""
        rates = {name: AdamConfig(1e-3) for name in objective.networks}
        recipe = train_recipe()
        state = TrainState(recipe)
        state.objective = objective
        state.optimizers = {name: torch.optim.Adam(objective.networks[name].parameters()) for name in rates}
        updater = Updater(replace(recipe, optimizers=rates, **changes), state, world)
        stage = objective.stages[-1]
        return cls(updater, next(p for p in stage.phases if isinstance(p, BilevelPhase)), stage)

    def update(self, of: Inputs | None = None) -> Terms:
        """One bilevel update."""
        return self.updater.update_bilevel(self.phase, self.stage.forward, inputs() if of is None else of)

    def parameters(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """Of these networks."""
        return [p for name in names for p in self.updater.state.objective.networks[name].parameters()]

    def hypergradient(self) -> Tensor:
        """All gradients of the trained networks in one row, with zeros where there is none."""
        self.update()
        return flat([p.grad for p in self.parameters(self.phase.trains)], self.parameters(self.phase.trains))


def flat(gradients: list[Tensor | None], parameters: list[nn.Parameter]) -> Tensor:
    """One row."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def unrolled(small: Small) -> Tensor:
    """The exact gradient: through the graph of the inner step."""
    networks, phase = small.updater.state.objective.networks, small.phase
    inner, outer = small.parameters(phase.inner.trains), small.parameters(phase.trains)
    loss = sum_weighted(phase.inner.terms(small.stage.forward(inputs())), phase.inner.weights)
    step = torch.autograd.grad(loss, inner, create_graph=True, allow_unused=True)
    stepped = [p if g is None else p - phase.alpha * g for p, g in zip(inner, step, strict=True)]
    names = [(n, name) for n in phase.inner.trains for name, _ in networks[n].named_parameters()]
    with substituted(networks, dict(zip(names, stepped, strict=True))):
        total = sum_weighted(phase.terms(small.stage.forward(inputs())), phase.weights)
    return flat(list(torch.autograd.grad(total, outer, allow_unused=True)), outer)


class substituted:  # noqa: N801 - used as a block
    """Networks that compute with other tensors in the place of their parameters for the time of a block."""

    def __init__(self, networks: dict[str, nn.Module], tensors: dict[tuple[str, str], Tensor]) -> None:
        self._places = [
            (networks[n].get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], tensor)
            for (n, name), tensor in tensors.items()
        ]

    def __enter__(self) -> None:
        self._before = [module._parameters.pop(name) for module, name, _ in self._places]
        for module, name, tensor in self._places:
            setattr(module, name, tensor)

    def __exit__(self, *fault: object) -> None:
        for (module, name, _), parameter in zip(self._places, self._before, strict=True):
            delattr(module, name)
            module._parameters[name] = parameter


def distill(**changes: Any) -> Objective:
    """The smallest DGI in float64, its predictors and meta-networks stirred so that all that may matter does."""
    config = replace(SMALL_DISTILL, guidance=replace(SMALL_DISTILL.guidance, **changes))
    torch.manual_seed(0)
    objective = build_objective(config, {})
    for network in objective.networks.values():
        network.double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return objective


def assert_near(found: Tensor, exact: Tensor, tolerance: float) -> None:
    """Within a share of the exact gradient's length."""
    assert float(exact.norm()) > 0
    assert float((found - exact).norm() / exact.norm()) < tolerance


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("alpha", [2e-4, 0.1, 1.0])
def test_the_gradient_is_that_of_exact_unrolling(alpha: float, direct: bool) -> None:
    exact = unrolled(Small.of(toy(alpha=alpha, direct=direct)))
    assert_near(Small.of(toy(alpha=alpha, direct=direct)).hypergradient(), exact, 0.01)


@pytest.mark.parametrize("epsilon", [0.1, 0.01, 0.001])
def test_a_shorter_arm_errs_less(epsilon: float) -> None:
    exact = unrolled(Small.of(toy()))
    small = Small.of(toy())
    small.phase = replace(small.phase, epsilon=epsilon)
    assert_near(small.hypergradient(), exact, 4 * epsilon**2)


@pytest.mark.parametrize("alpha", [2e-4, 0.01])
def test_the_gradient_of_a_small_dgi_is_that_of_exact_unrolling(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small.of(distill(imagined_rate=alpha))
    small.phase = replace(small.phase, epsilon=1e-3)  # the default is long for so few parameters: up to 3 %
    found = small.hypergradient()
    monkeypatch.setattr(adaptive, "adaptive_convolution", convolve_by_taps)  # these can be differentiated twice
    monkeypatch.setattr(distillation, "attention_transfer", compare_whole_matrices)
    with sdpa_kernel(SDPBackend.MATH):
        assert_near(found, unrolled(Small.of(distill(imagined_rate=alpha))), 0.01)


@pytest.mark.parametrize("name", ["cross_distillation", "self_distillation", "attention_transfer"])
def test_each_kind_of_guidance_has_the_gradient_of_exact_unrolling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only = {kind: kind == name for kind in ("cross_distillation", "self_distillation", "attention_transfer")}
    small = Small.of(distill(**only))
    small.phase = replace(small.phase, epsilon=1e-4)
    found = small.hypergradient()
    monkeypatch.setattr(adaptive, "adaptive_convolution", convolve_by_taps)
    monkeypatch.setattr(distillation, "attention_transfer", compare_whole_matrices)
    with sdpa_kernel(SDPBackend.MATH):
        assert_near(found, unrolled(Small.of(distill(**only))), 0.01)


def test_a_detached_target_that_moves_along_gives_another_gradient() -> None:
    held, moving = (
        Small.of(distill(cross_distillation=False, attention_transfer=False)),
        Small.of(distill(cross_distillation=False, attention_transfer=False)),
    )
    moving.phase = replace(moving.phase, held=())
    exact = held.hypergradient()
    assert float((moving.hypergradient() - exact).norm() / exact.norm()) > 0.5


@pytest.mark.parametrize("make", [toy, distill])
def test_the_inner_networks_are_as_before_bit_for_bit(make: Callable[[], Objective]) -> None:
    small = Small.of(make())
    networks = small.updater.state.objective.networks
    before = {name: {k: t.clone() for k, t in n.state_dict().items()} for name, n in networks.items()}
    small.update()
    for name, network in networks.items():
        same = all(torch.equal(tensor, before[name][key]) for key, tensor in network.state_dict().items())
        assert same == (name != "meta"), name


def test_the_inner_networks_are_as_before_even_after_a_fault() -> None:
    small = Small.of(toy())
    weight, broken = small.parameters(("generator",))[0], [0]
    before = weight.detach().clone()

    def forward(of: Inputs) -> Outputs:
        broken[0] += 1
        if broken[0] == 3:
            raise RuntimeError("broken")
        return small.stage.forward(of)

    with pytest.raises(RuntimeError, match="broken"):
        small.updater.update_bilevel(small.phase, forward, inputs())
    assert torch.equal(weight, before)


def test_an_update_lessens_what_the_judge_serves_after_the_next_step() -> None:
    small = Small.of(toy(alpha=0.5))

    def after_a_step() -> float:
        inner = small.parameters(("generator",))
        loss = sum_weighted(small.phase.inner.terms(small.stage.forward(inputs())), small.phase.inner.weights)
        with shift_parameters(inner, list(torch.autograd.grad(loss, inner)), -small.phase.alpha):
            return sum_weighted(small.phase.terms(small.stage.forward(inputs())), small.phase.weights).item()

    before = after_a_step()
    for _ in range(5):
        small.update()
    assert after_a_step() < before


def test_the_terms_are_those_of_the_aim_after_the_imagined_step() -> None:
    small = Small.of(toy())
    terms = small.update()
    assert set(terms) == {"guide_picture", "total_guide", "gradient_norm_guide", "learning_rate_meta"}
    assert not terms["guide_picture"].requires_grad


def test_a_judge_that_nothing_depends_on_is_left_alone() -> None:
    small = Small.of(toy())
    blind = Phase("learn", ("generator",), small.phase.terms, {"picture": 1.0})
    small.phase = replace(small.phase, inner=blind)
    before = [p.detach().clone() for p in small.parameters(("meta",))]
    small.update()
    assert all(torch.equal(b, p) for b, p in zip(before, small.parameters(("meta",)), strict=True))


def test_an_aim_that_is_no_number_stops_before_anything_is_changed() -> None:
    small = Small.of(toy())
    bad = inputs()
    bad.image[0, 0, 0, 0] = float("nan")
    before = [p.detach().clone() for p in small.parameters(("generator", "meta"))]
    with pytest.raises(
        NonFiniteError, match="picture on rank 0, guided on rank 0, in phase 'learn'"
    ):  # the inner step's
        small.update(bad)
    assert all(torch.equal(b, p) for b, p in zip(before, small.parameters(("generator", "meta")), strict=True))


def test_an_inner_aim_that_is_no_number_is_told_as_that_of_its_phase() -> None:
    small = Small.of(toy())
    inner = small.phase.inner
    small.phase = replace(small.phase, inner=replace(inner, weights=dict.fromkeys(inner.weights, float("inf"))))
    with pytest.raises(NonFiniteError, match=rf"the gradient of generator\.\S+ .*on rank 0, in phase '{inner.name}'"):
        small.update()


def test_an_aim_that_is_no_number_while_its_gradient_is_one_stops_too() -> None:
    small = Small.of(toy())
    small.phase = replace(
        small.phase, terms=lambda o: {"picture": (o["predicted"] - o["image"]).abs().mean() + float("inf")}
    )
    with pytest.raises(NonFiniteError, match="picture on rank 0, in phase 'guide'"):
        small.update()


def test_two_ranks_find_the_gradient_of_one() -> None:
    whole, meeting, brought, found = inputs(), threading.Barrier(2), dict[int, list[Tensor]](), dict[int, Tensor]()
    whole = Inputs(whole.image[:2], whole.mask[:2], whole.noise)
    ranks = [Small.of(toy(), ThreadWorld(rank, 2, meeting=meeting, brought=brought)) for rank in range(2)]

    def update(rank: int) -> None:
        ranks[rank].update(Inputs(whole.image[rank : rank + 1], whole.mask[rank : rank + 1], whole.noise))
        parameters = ranks[rank].parameters(("meta",))
        found[rank] = flat([p.grad for p in parameters], parameters)

    threads = [threading.Thread(target=update, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    alone = Small.of(toy())
    alone.update(whole)
    parameters = alone.parameters(("meta",))
    assert torch.equal(found[0], found[1])
    assert_near(found[0], flat([p.grad for p in parameters], parameters), 1e-9)


def test_an_aim_that_overflows_stops_before_anything_is_changed() -> None:
    small = Small.of(toy())
    huge = replace(small.phase, weights={"picture": 1e308})
    before = [p.detach().clone() for p in small.parameters(("generator", "meta"))]
    small.phase = replace(huge, terms=lambda o: {"picture": (1e200 * (o["predicted"] - o["image"])).square().mean()})
    with pytest.raises(NonFiniteError, match="in phase 'guide'"):
        small.update()
    assert all(torch.equal(b, p) for b, p in zip(before, small.parameters(("generator", "meta")), strict=True))


def test_gradients_of_unit_norm_make_steps_that_no_scale_of_the_aim_changes() -> None:
    found = []
    for scale in (1.0, 1e-9):
        small = Small.of(toy())
        state, recipe = small.updater.state, small.updater.recipe
        meta = replace(recipe.optimizers["meta"], unit_norm=True)
        updater = Updater(replace(recipe, optimizers=recipe.optimizers | {"meta": meta}), state, World())
        phase = replace(small.phase, weights={"picture": scale})
        updater.update_bilevel(phase, small.stage.forward, inputs())
        parameters = small.parameters(("meta",))
        found.append(flat([p.grad for p in parameters], parameters))
        assert float(found[-1].norm()) == pytest.approx(1)
    assert_near(found[1], found[0], 0.01)


@pytest.mark.parametrize("every", [0, -1])
def test_a_phase_that_would_never_run_is_refused(every: int) -> None:
    phase = toy().stages[0].phases[1]
    with pytest.raises(ValueError, match=f"phase 'guide' runs every {every} steps: take 1 or more"):
        replace(phase, every=every)
