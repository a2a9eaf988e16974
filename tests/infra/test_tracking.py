"""Law 9: one logical run is one MLflow run, each point once, and a server that is away stops nothing."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from infra.tracking import CLOCK_METRIC, EXPERIMENT, RUN_TAG, Tracking
from infra.tracking_values import flatten
from jobs import train as train_verb
from jobs.recipes import RECIPES
from pipelines.training.mlflow_sync import MlflowSync, read_points
from pipelines.training.run import TrainRun, begin_attempt
from tests.making import train_recipe

pytestmark = pytest.mark.thorough

NOBODY = "http://127.0.0.1:9"
CLOCKS = [4, 8, 12, 16, 20, 24, 28, 32]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}").list_versions("none")
    return path


@pytest.fixture
def uri(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking database of one's own, named by the environment."""
    uri = f"sqlite:///{shutil.copy(database, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture
def tracking(uri: str) -> Tracking:
    return Tracking(uri)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    """MLflow's own client, to look at what is there."""
    return MlflowClient(uri, uri)


def points(*steps: int) -> list[tuple[int, int, dict[str, float]]]:
    """Points a second apart whose loss is a tenth of their step."""
    return [(step, 1000 * step, {"loss": step / 10, CLOCK_METRIC: 100.0}) for step in steps]


def history(client: MlflowClient, run_id: str, metric: str = "loss") -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run_id, metric)]


def test_a_logical_run_is_found_again_by_its_tag(tracking: Tracking, uri: str) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    assert tracking.open_run("abc", "tiny", {}, {}) == run_id
    assert Tracking(uri).open_run("abc", "renamed", {"other": 1}, {}) == run_id
    assert tracking.open_run("abd", "tiny", {}, {}) != run_id


def test_a_run_whose_making_is_asked_for_again_as_its_answer_was_lost_is_one_run(
    tracking: Tracking, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = MlflowClient.create_run

    def make_and_lose_the_answer(client: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        make(client, *args, **kwargs)
        return make(client, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", make_and_lose_the_answer)
    run_id = tracking.open_run("abc", "tiny", {}, {})
    assert tracking.open_run("abc", "tiny", {}, {}) == run_id
    experiment = client.get_run(run_id).info.experiment_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [run_id]


def test_of_several_runs_the_one_with_points_counts(tracking: Tracking, client: MlflowClient) -> None:
    first = tracking.open_run("abc", "tiny", {}, {})
    experiment = client.get_run(first).info.experiment_id
    for number in range(2):
        client.create_run(experiment, start_time=number, tags={RUN_TAG: "abc"})
    tracking.log_points(first, points(4))
    assert tracking.open_run("abc", "tiny", {}, {}) == first
    assert [run.info.run_id for run in client.search_runs([experiment])] == [first]


def test_an_end_after_a_moment_stays_and_one_before_it_does_not(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    tracking.set_status(run_id, "KILLED")
    ended_ms = client.get_run(run_id).info.end_time
    tracking.set_status(run_id, "RUNNING", ended_ms - 1)
    assert client.get_run(run_id).info.status == "KILLED"
    tracking.set_status(run_id, "RUNNING", ended_ms + 1)
    assert client.get_run(run_id).info.status == "RUNNING"


def test_tags_of_a_run_change_when_they_are_set_and_not_when_it_is_found(
    tracking: Tracking, client: MlflowClient
) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {"lacuna.code": "old"})
    tracking.open_run("abc", "tiny", {}, {"lacuna.code": "new"})
    assert client.get_run(run_id).data.tags["lacuna.code"] == "old"
    tracking.set_tags(run_id, {"lacuna.code": "new"})
    assert client.get_run(run_id).data.tags["lacuna.code"] == "new"


def test_a_run_that_has_ended_keeps_its_end(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    tracking.set_status(run_id, "FINISHED")
    ended = client.get_run(run_id).info.end_time
    tracking.set_status(run_id, "FINISHED")
    assert client.get_run(run_id).info.end_time == ended


def test_a_point_of_more_terms_than_a_request_takes_is_stored_whole(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    values = {f"term_{number}": float(number) for number in range(1000)}
    tracking.log_points(run_id, [(4, 4000, {**values, CLOCK_METRIC: 1.0})])
    assert client.get_run(run_id).data.metrics == {**values, CLOCK_METRIC: 1.0}


def test_a_run_carries_its_recipe_and_tags(tracking: Tracking, client: MlflowClient) -> None:
    recipe = train_recipe().as_json()
    run = client.get_run(tracking.open_run("abc", "tiny", recipe, {"lacuna.datasets": "d"}))
    assert run.info.run_name == "tiny"
    assert client.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert (run.data.tags[RUN_TAG], run.data.tags["lacuna.datasets"]) == ("abc", "d")
    assert run.data.params["objective.network.width"] == "8"
    assert run.data.params["name"] == "tiny"
    logged = {key: json.loads(value) for key, value in run.data.params.items() if key.endswith(("width", "augment"))}
    assert logged == {key: value for key, value in flatten(recipe).items() if key in logged}
    assert run.data.params.keys() == flatten(recipe).keys()


def test_the_same_recipe_is_the_same_run_whatever_order_its_fields_are_in(tracking: Tracking) -> None:
    one, other = ({"augment": [fields]} for fields in ({"name": "Flip", "p": 1}, {"p": 1, "name": "Flip"}))
    assert tracking.open_run("abc", "tiny", one, {}) == tracking.open_run("abc", "tiny", other, {})


def test_what_a_run_was_made_from_is_there_once(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    inputs = [("faces", "ab" * 32, "s3://bucket/faces"), ("vgg16_features", "cd" * 32, "/weights/vgg16.safetensors")]
    for _ in range(2):
        tracking.log_inputs(run_id, inputs)
    there = client.get_run(run_id).inputs
    assert there is not None
    noted = {i.dataset.name: i.dataset for i in there.dataset_inputs}
    assert sorted(i.dataset.name for i in there.dataset_inputs) == ["faces", "vgg16_features"]
    assert json.loads(noted["faces"].source) == {"uri": "s3://bucket/faces", "sha256": "ab" * 32}
    assert noted["faces"].digest == ("ab" * 32)[:36]


def test_a_run_has_the_status_it_was_given_and_keeps_it_when_it_is_found(
    tracking: Tracking, client: MlflowClient
) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    statuses: tuple[Literal["RUNNING", "FINISHED", "FAILED"], ...] = ("FAILED", "RUNNING", "FINISHED", "RUNNING")
    for status in statuses:
        tracking.set_status(run_id, status)
        assert client.get_run(tracking.open_run("abc", "tiny", {}, {})).info.status == status


def test_each_point_is_written_once(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    for steps in ((4, 8), (4, 8), (4, 8, 12), (4, 8, 12, 16)):
        tracking.log_points(run_id, points(*steps))
    assert history(client, run_id) == [(4, 0.4), (8, 0.8), (12, 1.2), (16, 1.6)]


def test_a_point_that_is_sent_again_is_there_once(tracking: Tracking, client: MlflowClient) -> None:
    """As when a server took it and its answer was lost: the client sends the very same again."""
    run_id = tracking.open_run("abc", "tiny", {}, {})
    metric = Metric("loss", 0.4, 4000, 4)
    for _ in range(3):
        client.log_batch(run_id, metrics=[metric])
    tracking.log_points(run_id, points(4))
    assert history(client, run_id) == [(4, 0.4)]


def test_a_metric_that_comes_late_is_written_from_there_on(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    both = [*points(4), (8, 8000, {"loss": 0.8, "critic": 2.0, CLOCK_METRIC: 90.0})]
    tracking.log_points(run_id, both)
    assert history(client, run_id, "critic") == [(8, 2.0)]


def test_no_points_are_no_fault(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    tracking.log_points(run_id, [])
    assert history(client, run_id) == []


def test_a_file_is_stored_with_the_run(tracking: Tracking, client: MlflowClient, tmp_path: Path) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    for data in (b"old", b"new"):
        tracking.log_file(run_id, "fills", "1.png", data)
    assert [f.path for f in client.list_artifacts(run_id, "fills")] == ["fills/1.png"]
    assert Path(client.download_artifacts(run_id, "fills/1.png", str(tmp_path))).read_bytes() == b"new"


def test_artifacts_lie_beside_the_database_wherever_one_stands(
    tracking: Tracking, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tracking.log_file(tracking.open_run("abc", "tiny", {}, {}), "fills", "1.png", b"x")
    assert list((tmp_path / "mlartifacts").rglob("1.png"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_versions_count_up_in_order_of_their_numbers(tracking: Tracking, tmp_path: Path) -> None:
    run_id = tracking.open_run("abc", "tiny", {}, {})
    for number in range(1, 12):
        made = tracking.create_version("model", tmp_path.as_uri(), run_id, {"n": str(number)})
        assert (made.number, made.tags, made.run_id) == (str(number), {"n": str(number)}, run_id)
    assert [v.number for v in tracking.list_versions("model")] == [str(n) for n in range(1, 12)]
    assert tracking.get_version("model", "10").uri == "models:/model/10"


def test_an_alias_points_where_it_was_moved(tracking: Tracking, tmp_path: Path) -> None:
    assert tracking.find_alias("model", "champion") is None
    run_id = tracking.open_run("abc", "tiny", {}, {})
    for _ in range(2):
        tracking.create_version("model", tmp_path.as_uri(), run_id, {})
    assert tracking.find_alias("model", "champion") is None
    for number in ("2", "1"):
        tracking.move_alias("model", "champion", number)
        found = tracking.find_alias("model", "champion")
        assert found is not None
        assert found.number == number


def test_an_unknown_version_is_reported_with_the_existing_ones(tracking: Tracking, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no version 1 of model 'model' at sqlite:.*: its versions are none"):
        tracking.get_version("model", "1")


def test_nested_values_get_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": "f"}) == {"a.b": 1, "a.c.d": [2], "e": "f"}


def test_telling_twice_leaves_each_point_and_sheet_once(
    trained: TrainRun, tracking: Tracking, client: MlflowClient
) -> None:
    for _ in range(2):
        MlflowSync(replace(trained, tracking_uri=tracking.uri)).sync()
    run_id = tracking.open_run(trained.run_id, "tiny", {}, {})
    expected = [(p["images_seen"], p["values"]["l1_out"]) for p in read_points(trained.out)]
    assert history(client, run_id, "l1_out") == expected
    assert [step for step, _ in expected] == CLOCKS
    sheets = [f"fills/{clock:012d}.png" for clock in CLOCKS if clock % 8 == 0]
    assert [f.path for f in client.list_artifacts(run_id, "fills")] == sheets


def test_a_rank_says_that_a_run_goes_on_where_nobody_could(
    trained: TrainRun, tracking: Tracking, client: MlflowClient
) -> None:
    run = replace(trained, tracking_uri=tracking.uri, tags={"lacuna.code": "old"})
    run_id = tracking.open_run(trained.run_id, "tiny", {}, run.tags)
    tracking.set_status(run_id, "KILLED")
    time.sleep(0.01)
    of_a_rank = MlflowSync(replace(run, tags={"lacuna.code": "new"}))
    of_a_rank.sync()
    found = client.get_run(run_id)
    assert (found.info.status, found.data.tags["lacuna.code"]) == ("RUNNING", "new")
    tracking.set_status(run_id, "KILLED")
    of_a_rank.sync()
    assert client.get_run(run_id).info.status == "KILLED"


def test_the_end_of_a_command_that_another_has_followed_is_not_reported(
    trained: TrainRun, tracking: Tracking, client: MlflowClient, tmp_path: Path
) -> None:
    shutil.copytree(trained.out, out := tmp_path / "run")
    run = replace(trained, out=str(out), tracking_uri=tracking.uri)
    older, newer = (MlflowSync(replace(run, attempt=begin_attempt(str(out)))) for _ in range(2))
    run_id = tracking.open_run(trained.run_id, "tiny", {}, {})
    newer.sync("RUNNING")
    older.sync("FAILED")
    assert client.get_run(run_id).info.status == "RUNNING"
    newer.sync("FINISHED")
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_run_without_a_server_is_reported_to_nobody(trained: TrainRun, caplog: pytest.LogCaptureFixture) -> None:
    MlflowSync(trained).sync("FINISHED")
    assert not caplog.records


def test_a_server_that_is_away_is_a_warning_within_seconds(
    trained: TrainRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    started = time.monotonic()
    MlflowSync(replace(trained, tracking_uri=NOBODY)).sync("RUNNING")
    assert time.monotonic() - started < 20
    assert f"the tracking server at {NOBODY} does not have all of the training" in caplog.text


def test_a_run_that_ended_without_its_server_is_reported_by_the_same_command_later(
    trained: TrainRun, tracking: Tracking, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "tiny", train_recipe)
    shutil.copytree(trained.out, tmp_path / "run")
    report = train_verb.run(train_verb.Arguments("tiny", trained.data, str(tmp_path / "run")))
    assert (report["run_id"], report["images_seen"]) == (trained.run_id, 32)
    run_id = tracking.open_run(trained.run_id, "tiny", {}, {})
    assert [step for step, _ in history(client, run_id, "l1_out")] == CLOCKS


@pytest.mark.parametrize("uri", ["models:/x", "models:/x/one", "models:/x@", "models:/a/b/1"])
def test_a_name_that_means_no_version_makes_no_database(tmp_path: Path, uri: str) -> None:
    tracking = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(FileNotFoundError, match=f"{uri} names no version: give models:/NAME/NUMBER"):
        tracking.find_version(uri)
    assert list(tmp_path.iterdir()) == []
