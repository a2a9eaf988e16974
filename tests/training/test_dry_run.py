"""A dry run finds what cannot run, in any stage, before there is any work; what can run it lets pass."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.recipes import RECIPES
from nets import build_objective
from nets.deepgin.network import DeepGINConfig
from nets.objective import Inputs
from pipelines.checkpoints import open_checkpoint
from pipelines.noise import SampleNoise
from pipelines.records import UsageError
from pipelines.stream.config import StreamConfig
from pipelines.training.dry_run import _run_stage, _SavedTensors, dry_run
from pipelines.training.run import TrainRun
from tests.making import train_recipe
from tests.nets.configs import SMALL_DISTILL, WEIGHTS
from tests.sampling import sample_cases

pytestmark = pytest.mark.thorough

ROWS = [name for name, make in RECIPES.items() if isinstance(make, partial)]
"""Of the papers' tables: variants of what the others try, some seconds each."""


@pytest.mark.parametrize("name", sample_cases(ROWS, ("distill-net6-places2", "ec-star-places2")))
def test_every_row_of_a_table_can_run(name: str) -> None:
    assert all(dry_run(RECIPES[name](), WEIGHTS).num_parameters.values())


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ROWS])
def test_every_recipe_can_run(name: str) -> None:
    costs = dry_run(RECIPES[name](), WEIGHTS)
    assert all(costs.num_parameters.values())
    assert costs.sample_bytes > 0


def test_what_a_sample_keeps_is_what_autograd_keeps_of_it() -> None:
    """Two real samples, counted by the storages that autograd holds."""
    recipe = train_recipe()
    size_px = recipe.stream.size_px
    trained = build_objective(recipe.objective, {})
    noise = SampleNoise(0, [(0, 0), (1, 0)], torch.device("cpu"))
    samples = Inputs(torch.rand(2, 3, size_px, size_px), torch.zeros(2, 1, size_px, size_px), noise)
    saved = _SavedTensors([*trained.networks.values(), *trained.teachers.values()])
    most = max(_run_stage(stage, samples, saved) for stage in trained.stages)
    assert dry_run(recipe, {}).sample_bytes == pytest.approx(most / 2, rel=0.02)


def test_a_wider_network_keeps_more_of_a_sample_and_a_saving_one_less() -> None:
    wide = replace(train_recipe().objective, network=DeepGINConfig(16, 1, 1))
    narrow, wider = (dry_run(train_recipe(objective=o), {}) for o in (train_recipe().objective, wide))
    assert 1.5 * narrow.sample_bytes < wider.sample_bytes < 3 * narrow.sample_bytes
    saving = replace(train_recipe().objective, network=DeepGINConfig(8, 1, 1, checkpointing=True))
    assert dry_run(train_recipe(objective=saving), {}).sample_bytes < narrow.sample_bytes


def test_a_checkpoint_is_as_large_as_foretold(trained: TrainRun) -> None:
    folder = Path(open_checkpoint(trained.out).uri)
    there = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert dry_run(train_recipe(), {}).checkpoint_bytes == pytest.approx(there, rel=0.1)


def distillation(**changes: Any) -> Any:
    """A small DGI whose second stage is of another kind than its first."""
    optimizers = dict.fromkeys(("generator", "alignment", "auxiliary", "meta"), train_recipe().optimizers["generator"])
    return train_recipe(objective=replace(SMALL_DISTILL, **changes), optimizers=optimizers)


def test_a_fault_of_the_second_stage_is_found_before_the_first() -> None:
    dry_run(distillation(), {})
    with pytest.raises(
        UsageError, match=r"recipe tiny: its stage 'distillation' cannot run: the kernel is 999 px wide"
    ):
        dry_run(distillation(confidence_px=999), {})


def test_a_size_that_the_network_cannot_halve_is_refused() -> None:
    odd = StreamConfig(size_px=33, mask_canvas_px=64)
    with pytest.raises(UsageError, match="recipe tiny: its stage 'warm-up' cannot run"):
        dry_run(train_recipe(stream=odd), {})


def test_a_plane_that_the_stream_does_not_bring_is_refused() -> None:
    objective = replace(train_recipe().objective, network=replace(DeepGINConfig(8, 1, 1), segmentation=True))
    with pytest.raises(UsageError, match=r"stage 'warm-up' cannot run: .*segmentation"):
        dry_run(train_recipe(objective=objective), {})


def test_a_network_without_an_optimizer_is_refused() -> None:
    optimizers = {"generator": train_recipe().optimizers["generator"]}
    with pytest.raises(
        UsageError,
        match="recipe tiny: optimizers are for generator: give one to each of the networks generator, critic",
    ):
        dry_run(train_recipe(optimizers=optimizers), {})


def test_a_bilevel_phase_in_parts_is_refused() -> None:
    with pytest.raises(UsageError, match="grad_accumulation is 2: use 1 with a bilevel phase"):
        dry_run(replace(distillation(), grad_accumulation=2), {})
