"""What a training says of itself on held-out photos is what an evaluation of the same pairs says."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.world import World
from jobs.recipes import RECIPES
from nets import build_network
from pipelines.checkpoints import open_checkpoint
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.keyed_rng import KeyedRng
from pipelines.manifest import Dataset
from pipelines.stream.geometry import HELD_OUT, RESIZES
from pipelines.training.run import TrainRun
from pipelines.training.validation import open_validator
from tests.making import train_recipe


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.mark.parametrize(
    ("shown", "evaluated"), [("polyphase", "squash"), ("random-square", "centre-square"), ("squash", "squash")]
)
def test_a_watched_score_is_the_evaluated_score_of_the_same_pairs(
    trained: TrainRun, dataset: Dataset, tmp_path: Path, shown: str, evaluated: str
) -> None:
    checkpoint = open_checkpoint(trained.out)
    network = build_network(checkpoint.state["network"])  # of a few steps: no symmetry of the square leaves it alone
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    recipe = train_recipe()
    validator = open_validator(dataset, replace(recipe, stream=replace(recipe.stream, resize=shown)))
    assert validator is not None
    watched = validator.score(network, World()).values
    card = evaluate(trained.out, dataset.uri, str(tmp_path / "scores"), silent, EvalProtocol(resize=evaluated))
    assert len(card.rows) == 48
    assert watched["val_psnr_hole"] == pytest.approx(card.mean("psnr_hole"), abs=1e-3)
    assert watched["val_l1_hole"] == pytest.approx(card.mean("l1_hole"), rel=1e-3)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("deepgin")])
def test_held_out_photos_of_deepgin_are_upright(name: str, dataset: Dataset) -> None:
    stream = replace(RECIPES[name]().stream, size_px=32, planes=())
    validator = open_validator(dataset, train_recipe(stream=stream))
    assert validator is not None
    views = {RESIZES[validator.resize](48, 40, 32, KeyedRng("view", number)) for number in range(20)}
    (view,) = views
    assert (view.quarter_turns, view.phase) == (0, None)


def test_every_policy_that_chance_moves_has_one_that_it_does_not() -> None:
    assert set(HELD_OUT) | set(HELD_OUT.values()) <= set(RESIZES)
    assert not set(HELD_OUT) & set(HELD_OUT.values())
