"""The arithmetic of a training: operations counted by hand, and the share of a device's best that they make."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from infra.world import World
from nets.objective import BilevelPhase, Inputs, Phase, Stage
from pipelines.manifest import Dataset
from pipelines.noise import SampleNoise
from pipelines.training.dry_run import DryRun, StageCost, dry_run
from pipelines.training.flops import Counter, DeviceFlops, count_step_operations, measure_peak
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import AdamConfig
from pipelines.training.run import TrainRun
from pipelines.training.state import TrainState
from pipelines.training.updates import Updater
from pipelines.training.worker import run_rank
from tests.laws.trainings import MODELS, OBJECTIVES
from tests.making import train_recipe
from tests.nets.objectives import inputs, objective

pytestmark = pytest.mark.thorough

SIZE_PX, OUT, SAMPLES = 16, 8, 2
ONE_RUN = 2 * SAMPLES * (3 * OUT * 9) * SIZE_PX**2
"""A 3x3 convolution of 3 channels to OUT, each multiplication with its addition; its gradients cost the same."""


def stage_of(*phases: Phase | BilevelPhase, network: nn.Module) -> Stage:
    return Stage("only", None, lambda inputs: {"drawn": network(inputs.image)}, phases)


def count(stage: Stage, network: nn.Module) -> float:
    image = torch.empty(SAMPLES, 3, SIZE_PX, SIZE_PX, device="meta")
    return count_step_operations(stage, Inputs(image, image[:, :1], SampleNoise(0, [])), {"generator": network})


def learning(every: int = 1) -> Phase:
    return Phase("learn", ("generator",), lambda o: {"mean": o["drawn"].square().mean()}, {"mean": 1.0}, every)


@pytest.fixture
def convolution() -> nn.Module:
    return nn.Conv2d(3, OUT, 3, padding=1, bias=False, device="meta")


def test_a_convolution_forward_and_its_weights_gradient(convolution: nn.Module) -> None:
    assert count(stage_of(learning(), network=convolution), convolution) == 2 * ONE_RUN


def test_a_phase_that_has_every_fourth_turn_counts_by_a_quarter(convolution: nn.Module) -> None:
    assert count(stage_of(learning(every=4), network=convolution), convolution) == 1.25 * ONE_RUN


@pytest.mark.parametrize(
    ("name", "parts"),
    [(name, parts) for name in MODELS for parts in (1, 2) if parts == 1 or not name.startswith("distill")],
)
def test_operations_are_those_of_the_loops_own_steps(name: str, parts: int) -> None:
    """Of every stage: counted in as many steps as give every phase its turn."""
    rates = {network: AdamConfig(1e-4) for network in objective(name).networks}
    recipe = train_recipe(objective=OBJECTIVES[name], optimizers=rates, grad_accumulation=parts)
    state = TrainState(recipe)
    updater, counter = Updater(recipe, state, World()), Counter()
    for stage, cost in zip(state.objective.stages, dry_run(recipe, {}).stages, strict=True):
        num_steps = math.lcm(*(phase.every for phase in stage.phases))
        state.images_seen, counter.total = 0, 0.0
        with sdpa_kernel(SDPBackend.MATH), counter:
            for _ in range(num_steps):
                list(updater.step(stage, [inputs()] * parts))
                state.images_seen += recipe.batch_size
        samples = parts * len(inputs().image)
        assert cost.sample_operations * samples == pytest.approx(counter.total / num_steps, rel=0.01), stage.name


def test_the_best_of_this_machine_is_more_than_nothing_and_not_beyond_belief() -> None:
    assert 1e9 < measure_peak(torch.device("cpu"), "float32") < 1e13


def test_stages_count_as_long_as_they_last() -> None:
    costs = DryRun({}, 0, 0, 0, 0, (StageCost("first", 100, 3.0), StageCost("last", None, 5.0)))
    assert costs.count_photo_operations(2) == {"first": 6.0, "last": 10.0}
    assert [costs.count_operations(images, 2) for images in (50, 100, 110)] == [300.0, 600.0, 700.0]


def test_a_share_is_what_is_done_of_what_could_be() -> None:
    assert DeviceFlops({"warm-up": 2e9, "adversarial": 4e9}, peak=1e11).compute_utilization("adversarial", 5.0) == 0.2


def test_a_training_that_knows_its_operations_has_its_share_in_its_curves(
    trained: TrainRun, dataset: Dataset, tmp_path: Path
) -> None:
    run = replace(trained, out=str(tmp_path / "run"), photo_operations={"warm-up": 1e6, "adversarial": 2e6})
    run_rank(run, World(), lambda _: None)
    shares = [p["values"]["flops_utilization"] for p in read_points(run.out)]
    assert all(0 < share < 1 for share in shares)
    assert all("flops_utilization" not in p["values"] for p in read_points(trained.out))
