"""`lacuna train`: a recipe and datasets -> weights, one MLflow run, checkpoints from which the same command goes on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import tyro

from infra import storage
from infra.cluster import is_ours
from infra.lock import lock_folder
from infra.settings import code_revision, git_commit, tracking_uri
from infra.tracking import Status, require_login
from infra.tracking_faults import LoginError
from infra.weights import WeightsError, load_weights, resolve_weights_folder, weights_sha256
from jobs.cli import run_as_module
from jobs.plan import planned, told_plan
from jobs.progress import progress, say
from jobs.recipes import find_recipe
from pipelines.checkpoints import find_newest_clock, open_checkpoint, repair_commit_list
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import CorruptDataError, UsageError, join_choices
from pipelines.stream.batching import Stream
from pipelines.stream.config import refuse_missing_planes
from pipelines.stream.order import count_lane_readers
from pipelines.training.checkpointer import is_over
from pipelines.training.dry_run import Rehearsal, rehearse
from pipelines.training.launcher import Device, launch
from pipelines.training.loop import MEASURES
from pipelines.training.mlflow_sync import MlflowSync
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, begin_attempt, claim_run, refuse_other_run
from pipelines.training.validation import open_validator
from pipelines.training.worker import read_incidents

_INCIDENTS_TOLD: Final = 20
_TERMS_TOLD: Final = 3
_MAX_LOADER_WORKERS: Final = 1024
_NO_TERMS: Final = ("gradient_norm_", "learning_rate_", "total_", "val_", *MEASURES)


@dataclass(frozen=True)
class Arguments:
    """Train a recipe. The same command again resumes; more --images trains on."""

    recipe: tyro.conf.Positional[str]
    """Name of the recipe."""
    data: tuple[str, ...]
    """URIs of datasets."""
    out: str
    """URI of the run."""
    workers: int = 1
    """Processes that train together, one core each."""
    images: int | None = None
    """Stop at this many photos seen; the recipe's own end if not given."""
    dry_run: bool = False
    """Only say what would be trained."""
    device: Device = "auto"
    """Where the workers train: a GPU each (cuda), CPUs alone (cpu), or GPUs where there are as many (auto)."""
    loader_workers: int = 0
    """Processes that make the batches of each worker ahead, one more core each; 0: the worker makes them itself."""
    min_workers: int | None = None
    """With so few the training goes on where nodes are lost, until there are more again; --workers if not given."""
    grad_accumulation: int | None = None
    """Parts in which a worker's photos of a step go through the networks, to save memory; the recipe's if not given."""
    mix: tuple[int, ...] = ()
    """So many photos of each dataset in turn; if not given all photos count alike, of whatever dataset they are."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Trains and reports."""
    recipe = find_recipe(arguments.recipe)
    recipe = (
        recipe
        if arguments.grad_accumulation is None
        else replace(recipe, grad_accumulation=arguments.grad_accumulation)
    )
    until_images = recipe.images if arguments.images is None else arguments.images
    refuse_settings(arguments, recipe, until_images)
    require_login(tracking_uri())  # before any work: a server that is away is told later, one that refuses never
    datasets, faults = _opened(arguments.data)
    missing = [*map(str, faults), *_missing(arguments, recipe, datasets)]
    missing = missing or list(_taken(arguments, recipe, datasets))
    if arguments.dry_run:
        return told_plan(planned(recipe, datasets, until_images, arguments.workers, arguments.device), missing)
    if missing:
        raise faults[0] if faults else UsageError("; and ".join(missing))
    rehearsal = rehearse(recipe, load_weights(recipe.objective.needs_weights))
    with lock_folder(arguments.out):
        train_run = _run_of(arguments, recipe, datasets, until_images, rehearsal)
        repair_commit_list(train_run.out)
        if is_over(arguments.out, recipe, until_images):
            _teller(train_run).tell("FINISHED")  # and what its server may have missed
        else:
            _train(replace(train_run, attempt=begin_attempt(train_run.out)), arguments)
        done = open_checkpoint(arguments.out)
    incidents = read_incidents(arguments.out)
    return {
        "run_id": train_run.run_id,
        "images_seen": find_newest_clock(arguments.out),
        "checkpoint": done.uri,
        "weights_sha256": done.file_sha256(done.generator),
        "count_lane_readers": count_lane_readers(recipe.stream.num_lanes, arguments.workers),
        "num_incidents": len(incidents),
        "incidents": incidents[:_INCIDENTS_TOLD],
    }


def checked(arguments: Arguments, recipe: TrainRecipe, datasets: tuple[Dataset, ...], until_images: int) -> None:
    """Raises UsageError where anything of what is to be trained cannot be."""
    refuse_settings(arguments, recipe, until_images)
    missing = list(_missing(arguments, recipe, datasets))
    if missing:
        raise UsageError("; and ".join(missing))
    rehearse(recipe, load_weights(recipe.objective.needs_weights))


def _divisors(number: int) -> str:
    """Divisors of a number, in words; at most 12."""
    return join_choices([n for n in range(1, number + 1) if number % n == 0][:12])


def refuse_settings(arguments: Arguments, recipe: TrainRecipe, until_images: int) -> None:
    """Raises UsageError for numbers that cannot be, whatever there is of data and weights."""
    workers = arguments.workers
    if not arguments.data:
        raise UsageError("--data is empty: give at least one dataset")
    if not 0 <= arguments.loader_workers <= _MAX_LOADER_WORKERS:
        raise UsageError(
            f"--loader-workers is {arguments.loader_workers}: use 0 for none, at most {_MAX_LOADER_WORKERS}"
        )
    fewest = workers if arguments.min_workers is None else arguments.min_workers
    if workers < 1:
        raise UsageError(f"--workers is {workers}: take 1 or more")
    if not 1 <= fewest <= workers:
        raise UsageError(f"--min-workers is {fewest}: take 1 or more, and no more than --workers, {workers}")
    for number in range(fewest, workers + 1):
        if recipe.batch_size % number:
            raise UsageError(
                f"--workers {number} does not divide the batch size {recipe.batch_size}: "
                f"use {_divisors(recipe.batch_size)}"
            )
        if (photos := recipe.batch_size // number) % recipe.grad_accumulation:
            raise UsageError(
                f"--grad-accumulation {recipe.grad_accumulation} does not divide the {photos} photos of a worker: "
                f"use {_divisors(photos)}"
            )
    if not 0 < until_images <= recipe.images or until_images % recipe.batch_size:
        raise UsageError(
            f"--images is {until_images}: take a multiple of the batch of {recipe.batch_size}, at most {recipe.images}"
        )


def _opened(data: tuple[str, ...]) -> tuple[tuple[Dataset, ...], list[Exception]]:
    """The datasets that can be opened, and why others cannot."""
    datasets, faults = list[Dataset](), list[Exception]()
    for uri in data:
        try:
            datasets.append(open_dataset(uri))
        except (UsageError, CorruptDataError, OSError) as fault:
            faults.append(fault)
    return tuple(datasets), faults


def _missing(arguments: Arguments, recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    """All that the training needs and that is not there; raises UsageError where there is no photo at all."""
    yield from _missing_teachers(recipe)
    if len(datasets) == len(arguments.data):
        stream = Stream(datasets, recipe.stream, recipe.seed, arguments.mix)
        if stream.num_samples < recipe.batch_size:
            yield f"{stream.num_samples} photos to train on, a batch takes {recipe.batch_size}: give more --data"
        yield from _missing_planes(recipe, datasets)
        yield from _missing_photos(recipe, datasets)
    yield from _missing_gpus(arguments)


def _taken(arguments: Arguments, recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    """That the run cannot be at its place, or that another one is."""
    storage.to_writable_folder(arguments.out)
    try:
        refuse_other_run(recipe, datasets, arguments.out, arguments.mix)
    except (UsageError, CorruptDataError) as fault:
        yield str(fault)


def _missing_teachers(recipe: TrainRecipe) -> Iterator[str]:
    """Every file of weights that the recipe needs and that cannot be used."""
    problems = []
    for name in recipe.objective.needs_weights:
        try:
            weights_sha256([name])
        except WeightsError as fault:
            problems.append(str(fault))
    if problems:
        yield f"{recipe.name} wants weights of others: {'; and '.join(problems)}"


def _missing_planes(recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    for dataset in datasets:
        try:
            refuse_missing_planes(dataset, recipe.stream)
        except UsageError as fault:
            yield str(fault)


def _missing_photos(recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    """Held-out ones, where the training stops by them."""
    size_px = recipe.stream.size_px
    if recipe.early_stop_images is not None and open_validator(datasets[0], recipe) is None:
        yield (
            f"recipe {recipe.name} stops by its scores on held-out photos: {datasets[0].uri} has none with masks of "
            f"{size_px} px; build it with --holdout and --mask-size-px {size_px}"
        )


def _missing_gpus(arguments: Arguments) -> Iterator[str]:
    """Those of this machine, where it is the cluster."""
    found = torch.cuda.device_count()
    if arguments.device == "cuda" and is_ours() and found < arguments.workers:
        yield (
            f"--device is cuda: GPUs wanted, one for each worker: {arguments.workers}; there are {found} on this "
            "machine; RAY_ADDRESS names another cluster"
        )


def _run_of(
    arguments: Arguments, recipe: TrainRecipe, datasets: tuple[Dataset, ...], until_images: int, rehearsal: Rehearsal
) -> TrainRun:
    """The run at --out, by absolute places: ranks stand elsewhere."""
    return TrainRun(
        recipe,
        tuple(map(storage.to_absolute, arguments.data)),
        storage.to_absolute(arguments.out),
        until_images,
        claim_run(recipe, datasets, arguments.out, arguments.mix),
        tracking_uri(),
        _tags(datasets),
        tuple(_inputs(recipe, datasets)),
        arguments.mix,
        arguments.loader_workers,
        rehearsal.photo_operations(len(recipe.stream.masks)),
        resolve_weights_folder(),
    )


def _tags(datasets: tuple[Dataset, ...]) -> dict[str, str]:
    """What the MLflow run is found by; the code is that of the newest start, older ones are in the checkpoints."""
    digests = ",".join(dataset.manifest_sha256 for dataset in datasets)
    return {"lacuna.datasets": digests, "lacuna.commit": git_commit() or "", "lacuna.code": code_revision()}


def _inputs(recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[tuple[str, str, str]]:
    """Name, SHA-256 and place of every dataset and file of weights."""
    for dataset in datasets:
        yield dataset.name, dataset.manifest_sha256, dataset.uri
    for name, digest in weights_sha256(recipe.objective.needs_weights).items():
        yield name, digest, storage.join(resolve_weights_folder(), f"{name}.safetensors")


def _teller(run: TrainRun) -> MlflowSync:
    return MlflowSync(run, lambda problem: say(f"warning: {problem}"))


def _train(run: TrainRun, arguments: Arguments) -> None:
    """Trains, and tells MLflow the true end."""
    end: Status | None = "FAILED"
    teller = _teller(run)
    try:
        teller.tell("RUNNING")
        with progress() as show:
            launch(
                run,
                arguments.workers,
                lambda point: show("training", *_told(point, run.until_images)),
                arguments.device,
                warn=say,
                min_workers=arguments.min_workers,
            )
        end = "FINISHED"
    except LoginError:  # nothing has begun, and the server takes no word of it
        end = None
        raise
    except (KeyboardInterrupt, SystemExit):  # SIGTERM, while Ray starts
        end = "KILLED"
        raise
    finally:
        if end is not None:
            teller.tell(end)


def _told(point: dict[str, Any], until_images: int) -> tuple[int, int, str]:
    """How far it is, and some terms of the loss."""
    values = dict(point["values"])
    speed = values.pop("images_per_second")
    terms = [(name, value) for name, value in values.items() if not name.startswith(_NO_TERMS)][:_TERMS_TOLD]
    remark = ", ".join([f"{speed:.0f} photos/s", *(f"{name} {value:.4f}" for name, value in terms)])
    return point["images_seen"], until_images, remark


if __name__ == "__main__":
    run_as_module("train")
