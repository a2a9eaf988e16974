"""`lacuna train`: a recipe and datasets -> weights and one MLflow run; the same command resumes from checkpoints."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import tyro

from infra.lock import lock_folder
from infra.settings import get_tracking_uri
from infra.tracking_faults import LoginError
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import URI, Name
from jobs.progress import progress, say
from jobs.recipe import show_settings
from jobs.recipes import find_recipe
from pipelines.checkpoints import find_newest_clock, open_checkpoint, repair_commit_list
from pipelines.records import UsageError
from pipelines.stream.order import count_lane_readers
from pipelines.training.checkpointer import is_over
from pipelines.training.launcher import Device, launch
from pipelines.training.loop import MEASURES
from pipelines.training.mlflow_sync import MlflowSync
from pipelines.training.preflight import (
    TrainRequest,
    build_run,
    count_photo_operations,
    find_missing,
    find_other_run,
    open_datasets,
    refuse_settings,
    report_dry_run,
)
from pipelines.training.run import TrainRun, begin_attempt
from pipelines.training.worker import read_incidents

if TYPE_CHECKING:
    from infra.tracking import Status

_INCIDENTS_SHOWN: Final = 20
_TERMS_SHOWN: Final = 3
_NO_TERMS: Final = ("gradient_norm_", "learning_rate_", "total_", "val_", *MEASURES)


@dataclass(frozen=True)
class Arguments:
    """Train a recipe. The same command again resumes; more --images trains on."""

    recipe: tyro.conf.Positional[Name]
    """Name of the recipe."""
    data: tuple[URI, ...]
    """URIs of datasets."""
    out: URI
    """URI of the run."""
    workers: int = 1
    """Processes that train together, one core each."""
    images: int | None = None
    """Photos seen at which to stop; the recipe's own end if not given."""
    dry_run: bool = False
    """Check the training and print its costs, and do not train."""
    device: Device = "auto"
    """Device of the workers: a GPU each (cuda), CPUs alone (cpu), or GPUs where there are as many (auto)."""
    loader_workers: int = 0
    """Processes that make the batches of each worker ahead, one more core each; 0: the worker makes them itself."""
    min_workers: int | None = None
    """Fewest workers with which the training goes on where nodes are lost; --workers if not given."""
    grad_accumulation: int | None = None
    """Parts in which a worker's photos of a step go through the networks, to save memory; the recipe's if not given."""
    mix: tuple[int, ...] = ()
    """Numbers of photos taken from each dataset in turn; by default photos are drawn from all alike."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Train and report."""
    # Check settings, login, data, weights and --out.
    request = check(arguments)
    _require_login(get_tracking_uri())
    datasets, faults = open_datasets(request.data)
    missing = [*map(str, faults), *find_missing(request, datasets)]
    missing = missing or list(find_other_run(request, datasets))
    if arguments.dry_run:
        return _show_dry_run(report_dry_run(request, datasets), missing)
    if missing:
        raise faults[0] if faults else UsageError("; and ".join(missing))
    operations = count_photo_operations(request.recipe)
    # Train, or only send what the tracking server lacks.
    with lock_folder(arguments.out):
        train_run = build_run(request, datasets, tracking_uri=get_tracking_uri(), photo_operations=operations)
        repair_commit_list(train_run.out)
        if is_over(arguments.out, request.recipe, request.until_images):
            _open_mlflow(train_run).sync("FINISHED")
        else:
            _train(replace(train_run, attempt=begin_attempt(train_run.out)), arguments)
        checkpoint = open_checkpoint(arguments.out)
    # Report.
    incidents = read_incidents(arguments.out)
    return {
        "run_id": train_run.run_id,
        "images_seen": find_newest_clock(arguments.out),
        "checkpoint": checkpoint.uri,
        "weights_sha256": checkpoint.file_sha256(checkpoint.generator),
        "readers_of_a_lane": count_lane_readers(request.recipe.stream.num_lanes, arguments.workers),
        "num_incidents": len(incidents),
        "incidents": incidents[:_INCIDENTS_SHOWN],
    }


def check(arguments: Arguments) -> TrainRequest:
    """The training that is asked for; raises UsageError for settings that no data and no weights make possible."""
    recipe = find_recipe(arguments.recipe)
    if arguments.grad_accumulation is not None:
        recipe = replace(recipe, grad_accumulation=arguments.grad_accumulation)
    request = TrainRequest(
        recipe=recipe,
        data=arguments.data,
        out=arguments.out,
        until_images=recipe.images if arguments.images is None else arguments.images,
        num_workers=arguments.workers,
        min_workers=arguments.workers if arguments.min_workers is None else arguments.min_workers,
        num_loader_workers=arguments.loader_workers,
        mix=arguments.mix,
        device=arguments.device,
    )
    refuse_settings(request)
    return request


def _require_login(uri: str) -> None:
    """Raise LoginError now: a server that refuses the login never accepts a later call."""
    if uri.startswith("http"):
        from infra.tracking import require_login  # takes seconds to import: only where there is a server

        require_login(uri)


def _show_dry_run(report: dict[str, Any], missing: list[str]) -> dict[str, Any]:
    """Report of a dry run, also shown line by line; raises VerbError with it where something is missing."""
    show_settings({name: value for name, value in report.items() if value is not None})
    if missing:
        raise VerbError("; and ".join(missing), report | {"missing": missing}, exit_code=2)
    return report


def _open_mlflow(run: TrainRun) -> MlflowSync:
    return MlflowSync(run, lambda problem: say(f"warning: {problem}"))


def _train(run: TrainRun, arguments: Arguments) -> None:
    """Train, and send MLflow the true end."""
    end: Status | None = "FAILED"
    mlflow = _open_mlflow(run)
    try:
        mlflow.sync("RUNNING")
        with progress() as show:
            launch(
                run,
                arguments.workers,
                lambda point: show("training", *_format_point(point, run.until_images)),
                arguments.device,
                warn=say,
                min_workers=arguments.min_workers,
            )
        end = "FINISHED"
    except LoginError:  # nothing has begun, and the server accepts no status
        end = None
        raise
    except (KeyboardInterrupt, SystemExit):  # SIGTERM, while Ray starts
        end = "KILLED"
        raise
    finally:
        if end is not None:
            mlflow.sync(end)


def _format_point(point: dict[str, Any], until_images: int) -> tuple[int, int, str]:
    """Clock, end, and a remark of speed and some terms of the loss."""
    values = dict(point["values"])
    speed = values.pop("images_per_second")
    terms = [(name, value) for name, value in values.items() if not name.startswith(_NO_TERMS)][:_TERMS_SHOWN]
    remark = ", ".join([f"{speed:.0f} photos/s", *(f"{name} {value:.4f}" for name, value in terms)])
    return point["images_seen"], until_images, remark


if __name__ == "__main__":
    run_as_module("train")
