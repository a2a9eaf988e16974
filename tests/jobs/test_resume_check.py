"""`lacuna resume-check`: it kills for real, finds equal what is, and sees the smallest difference."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infra import storage
from infra.uris import InvalidURIError
from jobs import resume_check
from jobs.recipes import RECIPES
from jobs.resume_check import Arguments
from pipelines.checked_files import unseal
from pipelines.checkpoints import open_checkpoint, save_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import UsageError
from pipelines.training.mlflow_sync import format_points
from pipelines.training.run import TrainRun
from tests.making import train_recipe
from tests.sampling import sample_cases


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe small enough."""
    monkeypatch.setitem(RECIPES, "tiny", train_recipe)


@pytest.mark.slow
@pytest.mark.parametrize("workers", sample_cases((1, 2), (2,)))
def test_a_killed_training_is_proved_equal(
    dataset: Dataset, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    report = resume_check.run(Arguments("tiny", (dataset.uri,), workers, steps=8, out=str(tmp_path / "here")))
    assert (report["equal"], report["differing"]) == (True, [])
    assert (report["images_seen"], report["killed_at"]) == (32, 28)
    assert report["num_tensors"] > 100
    assert not list((tmp_path / "here").iterdir())
    assert "killed" in capsys.readouterr().err


def test_the_smallest_difference_is_seen(trained: TrainRun, tmp_path: Path) -> None:
    one = open_checkpoint(trained.out)
    assert not list(resume_check._compare_checkpoints(one, one))
    names = [file.removesuffix(".safetensors") for file in one.state["files"]]
    files = {name: one.tensors(name) for name in names}
    name, tensor = next(iter(files["adam.critic"].items()))
    files["adam.critic"][name] = torch.nextafter(tensor, torch.full_like(tensor, torch.inf))
    facts = {"images_seen": one.images_seen, "ledger": one.state["ledger"]}
    other = save_checkpoint(str(tmp_path / "run"), files, facts)
    assert list(resume_check._compare_checkpoints(one, other)) == [f"adam.critic: {name}"]


def test_another_sequence_of_photos_is_seen(trained: TrainRun) -> None:
    one = open_checkpoint(trained.out)
    other = replace(one, state={**one.state, "ledger": {**one.state["ledger"], "photos_digest": 1}})
    assert list(resume_check._compare_checkpoints(one, other)) == ["the photos that were seen"]


def test_another_curve_is_seen(trained: TrainRun, tmp_path: Path) -> None:
    assert resume_check._compare_points(trained.out, trained.out) == []
    shutil.copytree(trained.out, tmp_path / "run")
    newest = max((tmp_path / "run" / "metrics").iterdir())
    points = unseal(newest.read_bytes(), "")["points"]
    points[0]["values"]["l1_out"] += 1
    storage.publish(str(newest), format_points(points))
    assert len(resume_check._compare_points(trained.out, str(tmp_path / "run"))) == 1


def test_a_place_that_is_only_read_is_refused_before_anything_is_trained(dataset: Dataset) -> None:
    with pytest.raises(InvalidURIError, match="is read-only, as all of http://"):
        resume_check.run(Arguments("tiny", (dataset.uri,), steps=8, out="http://127.0.0.1:9/here"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": 6}, "--steps is 6: use a multiple of 4"),
        ({"steps": 0}, "--steps is 0"),
        ({"steps": 12}, "--steps is 12: the recipe ends after 8"),
        ({"workers": 3}, "--workers 3 does not divide the batch size 4: use 1, 2 or 4"),
        ({"data": ()}, "--data is empty"),
    ],
)
def test_what_cannot_be_checked_is_refused(dataset: Dataset, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        resume_check.run(replace(Arguments("tiny", (dataset.uri,), steps=8), **changes))  # type: ignore[arg-type]
