"""What the tests of the registry share: a tracking database, the trained weights and their scores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.tracking import Tracking
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.scorecard import Scorecard
from pipelines.manifest import Dataset
from pipelines.training.run import TrainRun
from tests.registry.registries import Registry


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """A tracking server's database in a folder of its own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield Tracking(uri)


@pytest.fixture(scope="module")
def checkpoint(trained: TrainRun) -> Checkpoint:
    return open_checkpoint(trained.out)


@pytest.fixture(scope="module")
def card(trained: TrainRun, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    """The scores of the trained weights."""
    out = str(tmp_path_factory.mktemp("scores"))
    return evaluate(trained.out, dataset.uri, out, lambda *_: None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}").list_versions("none")
    return path


@pytest.fixture
def registry(
    database: Path, trained: TrainRun, card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    """An empty registry."""
    uri = f"sqlite:///{shutil.copy(database, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield Registry(Tracking(uri), open_checkpoint(trained.out), card, tmp_path / "versions")
