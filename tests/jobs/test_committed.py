"""Verbs that read a damaged commit end with 1 and name the older one; a training goes on from it and says so."""

from pathlib import Path

import pytest

from infra.world import World
from jobs.evaluate import Arguments as Evaluation
from jobs.evaluate import run as evaluate
from pipelines.checkpoints import open_checkpoint
from pipelines.manifest import Dataset
from pipelines.training.run import TrainRun
from pipelines.training.worker import read_incidents, run_rank
from tests.jobs.test_cli import run
from tests.jobs.test_fill import photo_and_mask
from tests.training.test_run import copy_run, flip_byte, silent

NEWEST, OLDER = f"{32:012d}", f"{24:012d}"


@pytest.fixture(scope="module")
def scores(trained: TrainRun, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scores of the newest checkpoint."""
    out = str(tmp_path_factory.mktemp("scores") / "scores")
    evaluate(Evaluation(out=out, model=trained.out, data=dataset.uri))
    return out


def readers(out: str, dataset: Dataset, scores: str, folder: Path) -> list[tuple[str, ...]]:
    """Every verb that reads a checkpoint."""
    photo_and_mask(folder)
    pictures = ("--image", f"{folder}/photo.png", "--mask", f"{folder}/mask.png", "--out", f"{folder}/filled.png")
    return [
        ("fill", "--model", out, *pictures),
        ("evaluate", "--model", out, "--data", dataset.uri, "--out", f"{folder}/scores"),
        ("register", "--checkpoint", out, "--scores", scores, "--name", "faces"),
        ("weights", "--checkpoint", out, "--name", "mine", "--out", f"{folder}/weights"),
    ]


@pytest.mark.parametrize("file", ["generator.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_every_reader_refuses_a_damaged_commit_and_names_the_older(
    trained: TrainRun,
    dataset: Dataset,
    scores: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    how: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    out = copy_run(trained, tmp_path).out
    path = Path(out) / "checkpoints" / NEWEST / file
    flip_byte(path) if how == "flipped" else path.unlink()
    for words in readers(out, dataset, scores, tmp_path):
        code, report, _ = run(capfd, *words)
        assert code == 1, words[0]
        assert report["error"].startswith(str(path)), words[0]
        assert f"give {out}/checkpoints/{OLDER} to use that one" in report["error"], words[0]
    for name in ("filled.png", "scores", "weights", "mlflow.db"):
        assert not (tmp_path / name / "scores.json").exists()
    assert not (tmp_path / "filled.png").exists()


def test_what_filling_does_not_need_may_be_damaged(
    trained: TrainRun, dataset: Dataset, scores: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = copy_run(trained, tmp_path).out
    for name in ("critic", "adam.generator", "adam.critic"):
        flip_byte(Path(out) / "checkpoints" / NEWEST / f"{name}.safetensors")
    fill, _, _, weights = readers(out, dataset, scores, tmp_path)
    code, report, _ = run(capfd, *fill)
    assert (code, report["model"]) == (0, f"{out}/checkpoints/{NEWEST}")
    assert report["weights_sha256"] == open_checkpoint(trained.out).file_sha256("generator")
    assert run(capfd, *weights)[0] == 0


def test_a_training_goes_on_from_the_older_one_and_its_report_says_so(trained: TrainRun, tmp_path: Path) -> None:
    damaged = copy_run(trained, tmp_path)
    flip_byte(Path(damaged.out) / "checkpoints" / NEWEST / "generator.safetensors")
    run_rank(damaged, World(), silent)
    assert read_incidents(damaged.out) == ["checkpoint 32 is damaged or gone: the training went on from 24 images"]
    assert open_checkpoint(damaged.out).state["files"] == open_checkpoint(trained.out).state["files"]
    assert read_incidents(trained.out) == []
