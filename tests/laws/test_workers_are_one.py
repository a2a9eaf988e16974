"""Law: two workers at the same global batch make the updates of one, of every paper's networks, to rounding."""

from pathlib import Path
from typing import Final

import pytest
import torch
from torch import Tensor

from pipelines.checkpoints import open_checkpoint
from pipelines.manifest import Dataset
from pipelines.training.launcher import launch
from pipelines.training.mlflow_sync import read_points
from pipelines.training.run import TrainRun, claim_run
from tests.laws.trainings import MODELS, recipe_of
from tests.sampling import sample_cases

IMAGES: Final = {"deepgin": 20, "distill-net8": 44}
"""So that the critic and the bilevel phase have had their turn."""
_FIRST: Final = 4


def trained(model: str, dataset: Dataset, out: Path, workers: int) -> str:
    """The first steps of a training, by so many workers; returns the place of its run."""
    recipe = recipe_of(model)
    run = TrainRun(
        recipe, (dataset.uri,), str(out), IMAGES.get(model, _FIRST), claim_run(recipe, (dataset,), str(out)), ""
    )
    launch(run, workers, lambda _: None, "cpu")
    return run.out


def moments(out: str) -> dict[str, dict[str, Tensor]]:
    """Averaged gradients, as Adam keeps them, by network and parameter."""
    end = open_checkpoint(out)
    files = [name.removesuffix(".safetensors") for name in end.state["files"] if name.startswith("adam.")]
    return {file: {k: t for k, t in end.tensors(file).items() if k.endswith(".exp_avg")} for file in files}


@pytest.mark.parametrize("model", sample_cases(MODELS, ("deepgin", "spn-probabilistic", "distill-net8")))
def test_two_workers_learn_what_one_learns(model: str, dataset: Dataset, tmp_path: Path) -> None:
    one, two = (trained(model, dataset, tmp_path / str(workers), workers) for workers in (1, 2))
    alone, together = moments(one), moments(two)
    assert alone.keys() == together.keys()
    for network, gradients in alone.items():
        largest = max(float(gradient.abs().max()) for gradient in gradients.values())
        assert 0 < largest < float("inf"), network
        for name, gradient in gradients.items():  # some are zero but for rounding
            assert torch.allclose(gradient, together[network][name], rtol=1e-2, atol=1e-4 * largest), (network, name)
    for point, other in zip(read_points(one), read_points(two), strict=True):
        terms = [name for name in point["values"] if name.startswith("total_")]
        assert terms
        for name in terms:
            assert point["values"][name] == pytest.approx(other["values"][name], rel=1e-3), name
