"""Where a training ends and which checkpoint it is for: early stops, damaged ends, the best on held-out photos."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.world import World
from pipelines.checkpoints import open_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError
from pipelines.training.checkpointer import find_best, is_over
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, claim_run
from pipelines.training.worker import run_rank
from tests.making import train_recipe
from tests.training.test_run import copy_run, flip_byte, list_committed_clocks, silent

pytestmark = pytest.mark.thorough


def still(**changes: Any) -> TrainRecipe:
    """The small recipe at a rate that changes no pixel."""
    rates = {name: replace(o, learning_rate=1e-12) for name, o in train_recipe().optimizers.items()}
    return train_recipe(optimizers=rates, **changes)


def test_a_training_that_gets_no_better_ends_and_its_best_checkpoint_stays(dataset: Dataset, tmp_path: Path) -> None:
    recipe, out = still(early_stop_images=16), str(tmp_path / "run")
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    best = run_rank(run, World(), silent)
    assert list_committed_clocks(out)[-1] == 24
    assert open_checkpoint(best).images_seen == 8
    assert sorted(int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir()) == [8, 16, 24]
    assert is_over(out, recipe, recipe.images)
    assert open_checkpoint(out).images_seen == 8
    assert run_rank(run, World(), silent) == best  # as after a kill between the last commit and the end
    assert list_committed_clocks(out)[-1] == 24


def test_without_patience_a_training_goes_on_to_its_end(dataset: Dataset, tmp_path: Path) -> None:
    recipe, out = still(), str(tmp_path / "run")
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    assert open_checkpoint(run_rank(run, World(), silent)).images_seen == 32
    assert not is_over(out, recipe, 64)


def test_the_best_is_found_again_from_the_points(trained: TrainRun) -> None:
    scores = {p["images_seen"]: p["values"]["val_psnr_hole"] for p in read_points(trained.out) if
              "val_psnr_hole" in p["values"]}  # fmt: skip
    best = find_best(trained.out, replace(trained.recipe, early_stop_images=64), 32)
    assert (best.images_seen, best.score) == max(scores.items(), key=lambda item: item[1])


def test_scores_by_bin_add_up(trained: TrainRun) -> None:
    values = read_points(trained.out)[-1]["values"]
    bins = [value for name, value in values.items() if name.startswith("val_psnr_hole_")]
    assert len(bins) > 1
    assert min(bins) <= values["val_psnr_hole"] <= max(bins)


def test_a_damaged_end_is_trained_again(trained: TrainRun, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path)
    assert is_over(run.out, run.recipe, 32)
    flip_byte(Path(run.out) / "checkpoints" / "000000000032" / "generator.safetensors")
    assert not is_over(run.out, run.recipe, 32)
    run_rank(run, World(), silent)
    assert open_checkpoint(run.out).images_seen == 32


def test_points_that_are_missing_and_would_choose_another_best_are_missed(dataset: Dataset, tmp_path: Path) -> None:
    recipe, out = still(early_stop_images=16), str(tmp_path / "run")
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    run_rank(run, World(), silent)
    (tmp_path / "run" / "metrics" / f"{8:012d}.json").unlink()
    with pytest.raises(
        CorruptDataError, match=r"metrics has no points of 8 images, the best of .*000000000024: restore them"
    ):
        is_over(out, recipe, recipe.images)


def test_a_damaged_best_is_named(dataset: Dataset, tmp_path: Path) -> None:
    recipe, out = still(early_stop_images=16), str(tmp_path / "run")
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    flip_byte(Path(run_rank(run, World(), silent)) / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=r"000000000008/generator.safetensors is damaged"):
        open_checkpoint(out)


def test_a_training_that_fell_back_leaves_what_it_makes(dataset: Dataset, tmp_path: Path) -> None:
    """The best and the two newest are there, the newest damaged: the ones made again push those out, not themselves."""
    recipe, out = still(early_stop_images=100), str(tmp_path / "run")
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    run_rank(run, World(), silent)
    checkpoints = tmp_path / "run" / "checkpoints"
    for clock in (24, 32):
        flip_byte(checkpoints / f"{clock:012d}" / "generator.safetensors")
    run_rank(replace(run, until_images=16), World(), silent)
    assert sorted(int(p.name) for p in checkpoints.iterdir()) == [8, 16]
