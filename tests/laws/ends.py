"""What two trainings have in common at their ends, and what MLflow says of one."""

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from infra.tracking import RUN_TAG
from pipelines.checkpoints import open_checkpoint
from pipelines.training.loop import MEASURES
from pipelines.training.mlflow_sync import read_points
from tests.laws.trainings import IMAGES, database


def curves(out: Path | str) -> list[tuple[int, dict[str, float]]]:
    """Its points, without what they say of the machine."""
    points = [(p["images_seen"], p["values"]) for p in read_points(str(out))]
    return [(clock, {k: v for k, v in values.items() if k not in MEASURES}) for clock, values in points]


def same_end(one: Path | str, other: Path | str) -> None:
    """The same bits in every file, and each point of the curves once."""
    ends = [open_checkpoint(str(out)) for out in (one, other)]
    assert ends[0].images_seen == ends[1].images_seen == IMAGES
    assert ends[0].state["files"] == ends[1].state["files"]
    assert ends[0].state["ledger"] == ends[1].state["ledger"]
    assert curves(one) == curves(other)


def read_tracked_run(folder: Path) -> Run:
    """The only run that MLflow has of the trainings whose things lie there."""
    client = MlflowClient(database(folder))
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()], f"tags.`{RUN_TAG}` != ''")
    return run


def check_reported_once(out: Path | str, folder: Path) -> None:
    """MLflow has one run, finished, with each point once."""
    run = read_tracked_run(folder)
    assert run.info.status == "FINISHED"
    history = MlflowClient(database(folder)).get_metric_history(run.info.run_id, "images_per_second")
    assert [m.step for m in history] == [p["images_seen"] for p in read_points(str(out))]
