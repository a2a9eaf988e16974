"""Steps in every precision, on CPU and, where there is one, GPU: near float32's, and resumed bit for bit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infra.world import World
from nets.objective import Inputs, Objective, Outputs, Phase, Stage, Terms
from pipelines.checkpoints import open_checkpoint
from pipelines.noise import SampleNoise
from pipelines.records import UsageError
from pipelines.training.precision import PRECISIONS, LossScale, Precision, prepare_process, to_float32
from pipelines.training.recipe import AdamConfig, TrainRecipe
from pipelines.training.state import TrainState
from pipelines.training.updates import NonFiniteError, Updater
from tests.making import train_recipe
from tests.nets import objectives
from tests.nets.configs import CONFIGS, WEIGHTS

pytestmark = pytest.mark.thorough

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
HALVES = pytest.mark.parametrize("precision", ["bfloat16", "float16"])
_ROUGH = ("gradient_norm", "learning_rate", "total", "guide", "diversity")
"""Gradients, and one over the distance of fresh networks' samples, are nowhere near; an update left out has no rate."""
NAMES = ("deepgin", "spn", "spn-probabilistic", "spl", "mhtma", "distill-net8")


@pytest.fixture(autouse=True)
def flags() -> Iterator[None]:
    """What a precision sets for a process is set back."""
    yield
    prepare_process("float32", deterministic=False)


def recipe_of(name: str, precision: Precision = "float32") -> TrainRecipe:
    """The smallest training of an objective in this precision."""
    networks = objectives.objective(name).networks
    return train_recipe(
        objective=CONFIGS[name],
        optimizers={network: AdamConfig(1e-3) for network in networks},
        precision=precision,
        deterministic=True,
    )


def inputs(step: int, device: str) -> Inputs:
    """Two random pictures, others at each step."""
    on_cpu = objectives.inputs(seed=step)
    planes = {name: plane.to(device) for name, plane in on_cpu.planes.items()}
    noise = SampleNoise(0, [(step, 0), (step, 1)], device)
    return Inputs(on_cpu.image.to(device), on_cpu.mask.to(device), noise, planes)


def updater_of(recipe: TrainRecipe, device: str) -> Updater:
    prepare_process(recipe.precision, deterministic=recipe.deterministic)
    return Updater(recipe, TrainState(recipe, WEIGHTS, device), World(device=torch.device(device)))


def train(updater: Updater, num_steps: int) -> list[dict[str, float]]:
    """Steps in the last stage; their terms."""
    state, reported = updater.state, []
    for _ in range(num_steps):
        number = state.images_seen // updater.recipe.batch_size
        step = inputs(number, updater.world.device.type)
        terms: Terms = {}
        for part in updater.step(state.objective.stages[-1], [step]):
            terms |= part
        state.advance(updater.recipe.batch_size)
        reported.append({name: float(term) for name, term in terms.items()})
    return reported


@GPU
@pytest.mark.parametrize("name", list(CONFIGS))
def test_steps_on_a_gpu_are_those_on_a_cpu(name: str) -> None:
    on_cpu, on_gpu = (train(updater_of(recipe_of(name), device), 2) for device in ("cpu", "cuda"))
    for one, other in zip(on_cpu[0].items(), on_gpu[0].items(), strict=True):
        assert one == pytest.approx(other, rel=5e-3, abs=1e-5)
    assert on_cpu[1].keys() == on_gpu[1].keys()


@DEVICES
@HALVES
@pytest.mark.parametrize("name", NAMES)
def test_half_width_steps_are_near_those_in_float32(name: str, precision: Precision, device: str) -> None:
    (exact,), (rounded,) = (train(updater_of(recipe_of(name, p), device), 1) for p in ("float32", precision))
    for term in exact:
        if not term.startswith(_ROUGH):
            assert rounded[term] == pytest.approx(exact[term], rel=0.1, abs=0.02), term


@DEVICES
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_training_is_the_undisturbed_one(
    name: str, precision: Precision, device: str, tmp_path: Path
) -> None:
    recipe = recipe_of(name, precision)
    straight, first, second = (updater_of(recipe, device) for _ in range(3))
    train(straight, 4)
    train(first, 2)
    first.state.snapshot({}).save(str(tmp_path))
    second.state.restore(open_checkpoint(str(tmp_path)))
    train(second, 2)
    assert second.state.scale == straight.state.scale
    for network, of in straight.state.objective.networks.items():
        again = second.state.objective.networks[network].state_dict()
        assert all(torch.equal(tensor, again[key]) for key, tensor in of.state_dict().items()), network


class Power(nn.Module):
    """A network of one number x, whose loss is `slope` * x."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(()))


def steep(slope: float, offset: float = 0.0) -> Updater:
    """A float16 training with this slope, infinite where it is times the loss scale beyond float16."""
    network = Power()

    def terms(_: Outputs) -> Terms:
        return {"loss": (network.x.half() * slope).float(), "offset": torch.tensor(offset)}

    weights = {"loss": 1.0, "offset": 1.0}
    stage = Stage("only", None, lambda i: i.to_outputs(), (Phase("learn", ("generator",), terms, weights),))
    recipe = replace(recipe_of("deepgin"), precision="float16", optimizers={"generator": AdamConfig(1e-3)})
    state = TrainState(recipe_of("deepgin", "float16"))
    state.objective = Objective({"generator": network}, (stage,))
    state.optimizers = {"generator": torch.optim.Adam(network.parameters())}
    return Updater(recipe, state, World())


def value(updater: Updater) -> float:
    (x,) = updater.state.objective.networks["generator"].parameters()
    return float(x.detach())


def test_an_overflow_leaves_the_update_out_and_halves_the_factor() -> None:
    updater = steep(2.0)  # 2 * 65536 is beyond float16
    before = value(updater)
    assert "gradient_norm_learn" not in train(updater, 1)[0]
    assert value(updater) == before
    while updater.state.scale.factor * 2.0 > 65504:
        train(updater, 1)
    reported = train(updater, 1)[0]
    assert reported["gradient_norm_learn"] == pytest.approx(2.0)
    assert value(updater) < before


@pytest.mark.parametrize("offset", [float("inf"), float("nan")])
def test_a_term_that_is_no_number_ends_the_training_though_its_gradient_is_one(offset: float) -> None:
    updater = steep(1e-3, offset)
    before = value(updater)
    with pytest.raises(NonFiniteError, match="not finite: offset on rank 0, in phase 'learn'"):
        train(updater, 30)
    assert value(updater) == before


def test_a_fault_that_no_factor_repairs_is_raised() -> None:
    updater = steep(float("inf"))
    with pytest.raises(NonFiniteError, match="not finite: loss on rank 0"):
        train(updater, 30)
    assert updater.state.scale.factor == 1.0


def test_the_factor_doubles_after_two_thousand_updates_and_only_in_float16() -> None:
    scale, still = LossScale.for_precision("float16"), LossScale.for_precision("bfloat16")
    for _ in range(2000):
        scale.count_update()
        still.count_update()
    assert (scale.factor, scale.num_good) == (2.0**17, 0)
    assert still == LossScale()


def test_losses_are_made_of_float32() -> None:
    made: dict[str, Tensor] = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "single": torch.ones(2),
        "corner": torch.ones(2, dtype=torch.long),
    }
    assert [t.dtype for t in to_float32(made).values()] == [torch.float32, torch.float32, torch.long]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"precision is 'float8': use one of float32, tf32, bfloat16, float16"):
        train_recipe(precision="float8")
