"""The whole way on real MLflow servers, training to rollback, by the command's verbs and with no key of their S3."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from jobs.cli import run_verb
from jobs.recipes import RECIPES
from pipelines.manifest import Dataset
from tests.laws.failing_store import Request, failing_store
from tests.making import lacuna, train_recipe
from tests.tracking_servers import Login, Stack, TrackingServer, tracking_server, tracking_stack

pytestmark = pytest.mark.slow

NAME = "inpainter"
ADMIN, GUEST = Login("admin", "known-to-the-admin-1"), Login("guest", "known-to-the-guest-1")
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    with tracking_server(tmp_path_factory.mktemp("plain")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Postgres, S3, and a login for an admin and for a guest who may read."""
    with tracking_stack(tmp_path_factory.mktemp("stack"), ADMIN) as stack:
        stack.server.add_user(GUEST)
        yield stack


@contextmanager
def client_of(environment: Mapping[str, str]) -> Iterator[None]:
    """For the time of the block this process is a client with this environment and no keys of a store."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*VARIABLES, *(name for name in os.environ if name.startswith("AWS_"))]:
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setitem(RECIPES, "tiny", train_recipe)
        yield


@dataclass(frozen=True)
class Walk:
    """One run, its scores twice, and a photo; both servers get the same."""

    dataset: Dataset
    folder: Path
    capfd: pytest.CaptureFixture[str]

    def verb(self, verb: str, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, report and stderr of the verb in this process."""
        self.capfd.readouterr()
        code = run_verb(verb, list(words))
        stdout, stderr = self.capfd.readouterr()
        assert "Traceback" not in stderr
        return code, json.loads(stdout.strip().splitlines()[-1]), stderr

    def done(self, verb: str, *words: str) -> dict[str, Any]:
        """The report of a verb that must succeed."""
        code, report, stderr = self.verb(verb, *words)
        assert code == 0, stderr
        return report

    def words(self, verb: str, resize: str = "centre-square") -> list[str]:
        """The words of a verb, for the run or for the champion."""
        run, scores = str(self.folder / "run"), str(self.folder / resize)
        pictures = [f"--{name}={self.folder / name}.png" for name in ("image", "mask", "out")]
        return {
            "train": ["tiny", "--data", self.dataset.uri, "--out", run],
            "evaluate": ["--model", run, "--data", self.dataset.uri, "--out", scores, "--resize", resize],
            "register": ["--checkpoint", run, "--scores", scores, "--name", NAME],
            "promote": [NAME, "1"],
            "rollback": [NAME],
            "fill": [f"--model=models:/{NAME}@champion", *pictures],
        }[verb]

    def promote(self, number: str) -> dict[str, Any]:
        """The report of a promotion; weights of two steps are below any baseline."""
        return self.done("promote", NAME, number, "--force", "weights of a test")

    def go(self) -> None:
        """Train, score, register twice, promote both, return to the first and fill."""
        assert self.done("train", *self.words("train"))["images_seen"] == 32
        for number, resize in (("1", "centre-square"), ("2", "squash")):
            self.done("evaluate", *self.words("evaluate", resize))
            assert self.done("register", *self.words("register", resize))["version"] == number
        assert self.done("register", *self.words("register", "squash"))["version"] == "2", "it is found again"
        for number in ("1", "2"):
            assert self.promote(number)["champion_version"] == number
        assert self.done("rollback", NAME)["champion_version"] == "1"
        champion = self.done("fill", *self.words("fill"))
        assert champion["model"] == f"models:/{NAME}/1"
        filled = (self.folder / "out.png").read_bytes()
        self.done("fill", f"--model={self.folder / 'run'}", *self.words("fill")[1:])
        assert (self.folder / "out.png").read_bytes() == filled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run, the scores and the pictures are, for both servers."""
    folder = tmp_path_factory.mktemp("walk")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    mask = np.zeros((50, 70), np.uint8)
    mask[15:35, 20:50] = 255
    cv2.imwrite(str(folder / "image.png"), pixels)
    cv2.imwrite(str(folder / "mask.png"), mask)
    return folder


@pytest.fixture
def walk(dataset: Dataset, folder: Path, capfd: pytest.CaptureFixture[str]) -> Walk:
    return Walk(dataset, folder, capfd)


def curve(uri: str) -> list[int]:
    """Clocks of the only run that the server knows."""
    client = MlflowClient(uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return [m.step for m in client.get_metric_history(run.info.run_id, "l1_out")]


def test_on_a_plain_server(walk: Walk, plain: TrackingServer) -> None:
    with client_of(plain.environment):
        walk.go()
        assert curve(plain.uri) == list(range(4, 33, 4))


def test_on_postgres_with_files_on_s3_and_logins(walk: Walk, stack: Stack) -> None:
    with client_of(stack.server.environment):
        walk.go()
        assert curve(stack.server.uri) == list(range(4, 33, 4))
        assert len(stack.files_below("/generator.safetensors")) == 2


def test_scores_of_a_version_are_those_of_its_checkpoint(walk: Walk, stack: Stack, tmp_path: Path) -> None:
    """Its workers, processes of their own, are let in as well."""
    words = ["--model", f"models:/{NAME}/1", "--data", walk.dataset.uri, "--out", str(tmp_path / "scores")]
    with client_of(stack.server.environment):
        code, report, stderr = lacuna("evaluate", *words, cwd=tmp_path)
    assert code == 0, stderr
    assert report["scores"] == walk.done("evaluate", *walk.words("evaluate"))["scores"]


@pytest.mark.parametrize("login", [None, Login("admin", "not-the-password-3")], ids=["absent", "wrong"])
def test_without_the_right_login_every_verb_names_the_variables(
    walk: Walk, stack: Stack, login: Login | None, tmp_path: Path
) -> None:
    words = {verb: walk.words(verb) for verb in ("train", "register", "promote", "rollback", "fill")}
    words["train"] = ["tiny", "--data", walk.dataset.uri, "--out", str(tmp_path / "new")]
    words["evaluate"] = ["--model", f"models:/{NAME}/1", *walk.words("evaluate")[2:]]
    with client_of({"MLFLOW_TRACKING_URI": stack.server.uri, **(login.environment if login else {})}):
        for verb, arguments in words.items():
            code, report, stderr = walk.verb(verb, *arguments)
            assert code == 2, verb
            assert all(name in report["error"] for name in VARIABLES)
            assert "\n" not in report["error"]
            assert not login or login.password not in stderr + report["error"]
    assert not (tmp_path / "new").exists()


def test_a_server_that_goes_away_while_a_version_is_made_is_reported(walk: Walk, plain: TrackingServer) -> None:
    def lost(request: Request, _: int) -> str:
        return "cut" if request.path.endswith("model-versions/create") else ""

    words = [*walk.words("register")[:-1], "other"]
    with (
        failing_store(plain.uri, lost) as (proxy, _),
        client_of({"MLFLOW_TRACKING_URI": proxy, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}),
    ):
        code, report, _ = walk.verb("register", *words)
    assert code == 1
    assert "the model is stored as models:/m-" in report["error"]
    assert "run the same command again, which finds or makes it" in report["error"]
    with client_of(plain.environment):
        assert walk.done("register", *words)["version"] == "1"


def test_a_guest_may_look_and_change_nothing(walk: Walk, stack: Stack, tmp_path: Path) -> None:
    words = {"promote": [NAME, "2"], "train": ["tiny", "--data", walk.dataset.uri, "--out", str(tmp_path / "new")]}
    with client_of({"MLFLOW_TRACKING_URI": stack.server.uri, **GUEST.environment}):
        walk.done("fill", *walk.words("fill"))
        assert walk.done("register", *walk.words("register"))["version"] == "1", "what is there is found"
        for verb, arguments in words.items():
            code, report, _ = walk.verb(verb, *arguments)
            assert code == 2, report
            assert "forbids this to its user" in report["error"]
        champion = MlflowClient(stack.server.uri).get_model_version_by_alias(NAME, "champion")
    assert champion.version == "1"
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_a_version_whose_files_changed_on_s3_is_not_served(walk: Walk, stack: Stack) -> None:
    paths = stack.files_below("/code/nets/filling.py")
    for path in paths:
        stack.files.pipe_file(path, stack.files.cat_file(path) + b"\n\n")
    with client_of(stack.server.environment):
        for verb, words in (("fill", walk.words("fill")), ("promote", [NAME, "2"])):
            code, report, _ = walk.verb(verb, *words)
            assert code == 1
            assert "code/nets/filling.py has SHA-256" in report["error"]
    assert len(paths) == 2
