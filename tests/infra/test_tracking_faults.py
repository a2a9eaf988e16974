"""What a tracking server refuses is one line that says what to do, without passwords, whichever verb asked it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infra.tracking import Tracking, require_login
from infra.tracking_faults import LoginError, TrackingError
from jobs import train as train_verb
from jobs.cli import run_verb
from jobs.recipes import RECIPES
from pipelines.evaluation.evaluate import evaluate
from pipelines.manifest import Dataset
from pipelines.training.mlflow_sync import MlflowSync
from pipelines.training.run import TrainRun
from tests.making import train_recipe

pytestmark = pytest.mark.thorough

PASSWORD = "known-to-nobody-9"
PAGE = "<html>\n<body>\nWelcome\n</body>\n</html>"
DENIED = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})
VARIABLES = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
ABSENT = "http://127.0.0.1:9"


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of a server that has one answer for everything."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, "You are not authenticated.", LoginError, f"refuses the login, or there is none: {VARIABLES}"),
        (401, json.dumps({"error_code": "UNAUTHENTICATED", "message": "no"}), LoginError, VARIABLES),
        (401, PAGE, LoginError, VARIABLES),
        (403, DENIED, LoginError, r"forbids this to its user \(PERMISSION_DENIED: Permission denied\): for"),
        (403, PAGE, LoginError, VARIABLES),
        (200, PAGE, TrackingError, "does not answer as MLflow does .*: correct MLFLOW_TRACKING_URI"),
        (404, PAGE, TrackingError, "does not answer as MLflow does .*: correct MLFLOW_TRACKING_URI"),
        (501, PAGE, TrackingError, "does not answer as MLflow does .*: correct MLFLOW_TRACKING_URI"),
        (502, PAGE, TrackingError, "could not reach .*: .*502 error"),
        (400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "odd"}), TrackingError, "odd"),
    ],
)
def test_a_refusal_is_one_line_with_what_to_do(status: int, body: str, kind: type[Exception], words: str) -> None:
    with answering(status, body) as uri, pytest.raises(kind, match=words) as refusal:
        Tracking(uri).list_versions("model")
    line = str(refusal.value)
    assert uri in line
    assert not any(part in line for part in ("\n", "<html", PASSWORD))


def test_a_server_that_is_away_is_one_line() -> None:
    with pytest.raises(TrackingError, match=f"could not reach the tracking server at {ABSENT}: ") as fault:
        Tracking(ABSENT).list_versions("model")
    assert "\n" not in str(fault.value)


def test_a_password_in_the_address_is_not_shown() -> None:
    with answering(404, PAGE) as uri, pytest.raises(TrackingError) as fault:
        Tracking(uri.replace("//", f"//me:{PASSWORD}@")).list_versions("model")
    assert PASSWORD not in str(fault.value)


def test_a_login_is_wanted_where_the_server_says_so_and_only_there() -> None:
    with answering(401, "who?") as uri, pytest.raises(LoginError, match=VARIABLES):
        require_login(uri)
    for status, body in ((404, DENIED.replace("PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")), (200, PAGE), (503, "")):
        with answering(status, body) as uri:
            require_login(uri)
    require_login(ABSENT)
    require_login("sqlite:////nowhere/mlflow.db")


@pytest.fixture(scope="module")
def scores(trained: TrainRun, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the scores of the trained run are."""
    out = str(tmp_path_factory.mktemp("scores"))
    evaluate(trained.out, dataset.uri, out, lambda *_: None)
    return out


@pytest.fixture
def words(
    trained: TrainRun, dataset: Dataset, scores: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[str]]:
    """A command line for every verb that asks a tracking server."""
    monkeypatch.setitem(RECIPES, "tiny", train_recipe)
    for name, channels in (("photo", 3), ("mask", 1)):
        pixels = np.zeros((40, 40, channels), np.uint8)
        pixels[10:20, 10:20] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    model, data = "models:/model@champion", dataset.uri
    pictures = ["--image", f"{tmp_path}/photo.png", "--mask", f"{tmp_path}/mask.png", "--out", f"{tmp_path}/o.png"]
    return {
        "train": ["tiny", "--data", data, "--out", str(tmp_path / "run")],
        "register": ["--checkpoint", trained.out, "--scores", scores, "--name", "model"],
        "promote": ["model", "1"],
        "rollback": ["model"],
        "fill": ["--model", model, *pictures],
        "evaluate": ["--model", model, "--data", data, "--out", str(tmp_path / "out")],
    }


@pytest.mark.parametrize("verb", ["train", "register", "promote", "rollback", "fill", "evaluate"])
def test_every_verb_says_which_login_to_set(
    verb: str,
    words: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with answering(401, "You are not authenticated.") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        code = run_verb(verb, words[verb])
    stdout, stderr = capfd.readouterr()
    assert code == 2
    assert VARIABLES in json.loads(stdout)["error"]
    assert "Traceback" not in stderr
    assert PASSWORD not in stdout + stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["register", "promote", "rollback", "fill", "evaluate"])
def test_no_verb_ends_in_a_traceback_where_something_else_answers(
    verb: str, words: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(200, PAGE) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        code = run_verb(verb, words[verb])
    stdout, stderr = capfd.readouterr()
    assert code == 1
    assert "does not answer as MLflow does" in json.loads(stdout)["error"]
    assert "Traceback" not in stderr


def test_a_training_that_may_not_write_ends_before_its_first_step(trained: TrainRun, dataset: Dataset) -> None:
    with answering(403, DENIED) as uri:
        run = replace(trained, tracking_uri=uri)
        with pytest.raises(LoginError, match="forbids this"):
            MlflowSync(run).sync("RUNNING")
        warnings: list[str] = []
        MlflowSync(run, warnings.append).sync()
        MlflowSync(run, warnings.append).sync("FINISHED")
    assert len(warnings) == 2
    assert all("forbids this" in warning for warning in warnings)


def test_a_dry_run_says_that_the_login_is_wrong(words: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = words["train"][2], words["train"][4]
    with answering(401, "who?") as uri, pytest.raises(LoginError, match=VARIABLES):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        train_verb.run(train_verb.Arguments("tiny", (data,), out, dry_run=True))
