"""Checks before a training, its dry run, and the run that they build: shared by train, resume-check and --dry-run.

In: a `TrainRequest`. Out: all that is wrong or missing, at once and before any work; a `TrainRun` for `launch`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from infra import storage
from infra.cluster import is_ours
from infra.settings import compute_code_revision, read_git_commit
from infra.weights import WeightsError, hash_weights, load_weights, resolve_weights_folder
from nets import TEACHER_SHAPES
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import CorruptDataError, UsageError, join_choices
from pipelines.stream.batching import Stream
from pipelines.stream.config import refuse_missing_planes
from pipelines.stream.reading import ShardReader
from pipelines.training.dry_run import dry_run
from pipelines.training.flops import measure_peak
from pipelines.training.launcher import Device
from pipelines.training.precision import prepare_process
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, claim_run, refuse_other_run
from pipelines.training.validation import open_validator

_MAX_LOADER_WORKERS: Final = 1024


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A training as a user asks for it."""

    recipe: TrainRecipe
    data: tuple[str, ...]
    """URIs of datasets."""
    out: str
    """URI of the run."""
    until_images: int
    num_workers: int
    min_workers: int
    """The fewest workers with which it goes on where nodes are lost."""
    num_loader_workers: int = 0
    """Loader workers of each Ray Train worker."""
    mix: tuple[int, ...] = ()
    """Photos of each dataset in turn; empty for all photos alike."""
    device: Device = "auto"


def refuse_settings(request: TrainRequest) -> None:
    """Raise UsageError for numbers that no data and no weights make possible."""
    recipe, workers = request.recipe, request.num_workers
    if not request.data:
        raise UsageError("--data is empty: give at least one dataset")
    if not 0 <= request.num_loader_workers <= _MAX_LOADER_WORKERS:
        raise UsageError(
            f"--loader-workers is {request.num_loader_workers}: use 0 for none, at most {_MAX_LOADER_WORKERS}"
        )
    if workers < 1:
        raise UsageError(f"--workers is {workers}: use at least 1")
    if not 1 <= request.min_workers <= workers:
        raise UsageError(f"--min-workers is {request.min_workers}: use 1 to {workers}, the number of --workers")
    for number in range(request.min_workers, workers + 1):
        refuse_uneven_shares(recipe, number)
    if not 0 < request.until_images <= recipe.images or request.until_images % recipe.batch_size:
        raise UsageError(
            f"--images is {request.until_images}: use a multiple of the batch size {recipe.batch_size}, "
            f"at most {recipe.images}"
        )


def refuse_uneven_shares(recipe: TrainRecipe, num_workers: int) -> None:
    """Raise UsageError where so many workers cannot have equal shares of a step, or not in equal parts."""
    if recipe.batch_size % num_workers:
        raise UsageError(
            f"--workers {num_workers} does not divide the batch size {recipe.batch_size}: "
            f"use {_join_divisors(recipe.batch_size)}"
        )
    if (photos := recipe.batch_size // num_workers) % recipe.grad_accumulation:
        raise UsageError(
            f"--grad-accumulation {recipe.grad_accumulation} does not divide the {photos} photos of a worker: "
            f"use {_join_divisors(photos)}"
        )


def _join_divisors(number: int) -> str:
    """The first 12 divisors of a number, in words."""
    return join_choices([n for n in range(1, number + 1) if number % n == 0][:12])


def open_datasets(uris: tuple[str, ...]) -> tuple[tuple[Dataset, ...], list[Exception]]:
    """Datasets that can be opened, and the errors of the others."""
    datasets, faults = list[Dataset](), list[Exception]()
    for uri in uris:
        try:
            datasets.append(open_dataset(uri))
        except (UsageError, CorruptDataError, OSError) as fault:
            faults.append(fault)
    return tuple(datasets), faults


def find_missing(request: TrainRequest, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    """Yield all that the training needs and lacks; raises UsageError where there are no photos at all.

    Photos are not checked where some of the datasets could not be opened.
    """
    recipe = request.recipe
    yield from _find_missing_teachers(recipe)
    if len(datasets) == len(request.data):
        stream = Stream(datasets, recipe.stream, recipe.seed, request.mix)
        if stream.num_samples < recipe.batch_size:
            yield f"{stream.num_samples} photos to train on, a batch takes {recipe.batch_size}: give more --data"
        yield from _find_missing_planes(recipe, datasets)
        size_px = recipe.stream.size_px
        if recipe.early_stop_images is not None and open_validator(datasets[0], recipe) is None:
            yield (
                f"recipe {recipe.name} stops by its scores on held-out photos: {datasets[0].uri} has none with masks "
                f"of {size_px} px; build it with --holdout and --mask-size-px {size_px}"
            )
    found = torch.cuda.device_count()
    if request.device == "cuda" and is_ours() and found < request.num_workers:
        yield (
            f"--device is cuda: {request.num_workers} workers need a GPU each; there are {found} on this machine. "
            "Use --device cpu, or a cluster by RAY_ADDRESS"
        )


def _find_missing_teachers(recipe: TrainRecipe) -> Iterator[str]:
    """Yield one line for all files of weights that the recipe needs and that cannot be used."""
    problems = []
    for name in recipe.objective.needs_weights:
        try:
            hash_weights([name])
        except WeightsError as fault:
            problems.append(str(fault))
    if problems:
        yield f"recipe {recipe.name} needs weights of its teachers: {'; and '.join(problems)}"


def _find_missing_planes(recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    for dataset in datasets:
        try:
            refuse_missing_planes(dataset, recipe.stream)
        except UsageError as fault:
            yield str(fault)


def find_other_run(request: TrainRequest, datasets: tuple[Dataset, ...]) -> Iterator[str]:
    """Yield why the run at --out is not this one; raises InvalidURIError where --out cannot be written to."""
    storage.to_writable_folder(request.out)
    try:
        refuse_other_run(request.recipe, datasets, request.out, request.mix)
    except (UsageError, CorruptDataError) as fault:
        yield str(fault)


def report_dry_run(request: TrainRequest, datasets: tuple[Dataset, ...]) -> dict[str, Any]:
    """Report of --dry-run: the recipe with all its settings, and its costs; raises UsageError where it cannot run."""
    # Run it without numbers.
    recipe, num_masks = request.recipe, len(request.recipe.stream.masks)
    costs = dry_run(recipe, _load_teachers(recipe))
    operations = costs.count_operations(request.until_images, num_masks)
    # Predict time and memory.
    num_photos = sum(ShardReader(datasets, "train").counts) if datasets else 0
    num_samples = recipe.batch_size // request.num_workers // recipe.grad_accumulation * num_masks
    device = _choose_device(request)
    return {
        "recipe": recipe.as_json(),
        "num_parameters": costs.num_parameters,
        "num_steps": request.until_images // recipe.batch_size,
        "num_images": request.until_images,
        "num_epochs": round(request.until_images / num_photos, 2) if num_photos else None,
        "num_checkpoints": -(-request.until_images // recipe.checkpoint_images),
        "checkpoint_bytes": costs.checkpoint_bytes,
        "memory_bytes_of_a_worker": costs.compute_memory_bytes(num_samples, device),
        "memory_bytes_of_writing": costs.writing_bytes,
        "num_operations": operations,
        "hours_at_least": _predict_hours(operations / request.num_workers, device, recipe),
        "num_gpus_here": torch.cuda.device_count(),
    }


def _load_teachers(recipe: TrainRecipe) -> dict[str, dict[str, Tensor]]:
    """Weights of teachers; for a file that is missing its shapes alone, which are enough for a dry run."""
    teachers: dict[str, dict[str, Tensor]] = {}
    for name in recipe.objective.needs_weights:
        try:
            teachers |= load_weights([name])
        except WeightsError:
            if name not in TEACHER_SHAPES:
                raise
            teachers[name] = TEACHER_SHAPES[name]()
    return teachers


def _choose_device(request: TrainRequest) -> torch.device:
    """Device of a worker, as far as this machine shows it."""
    is_gpu = torch.cuda.device_count() >= request.num_workers if request.device == "auto" else request.device == "cuda"
    return torch.device("cuda" if is_gpu else "cpu")


def _predict_hours(operations: float, device: torch.device, recipe: TrainRecipe) -> float | None:
    """Hours of a worker for so many operations at the peak of this machine; None where another will train."""
    if not is_ours() or (device.type == "cuda" and not torch.cuda.is_available()):
        return None
    prepare_process(recipe.precision, deterministic=recipe.deterministic)
    return round(operations / measure_peak(device, recipe.precision) / 3600, 3)


def count_photo_operations(recipe: TrainRecipe) -> dict[str, float]:
    """Number of operations of a photo by stage, by a dry run; raises UsageError where the recipe cannot run."""
    costs = dry_run(recipe, load_weights(recipe.objective.needs_weights))
    return costs.count_photo_operations(len(recipe.stream.masks))


def build_run(
    request: TrainRequest,
    datasets: tuple[Dataset, ...],
    *,
    tracking_uri: str = "",
    photo_operations: dict[str, float] | None = None,
) -> TrainRun:
    """The run at --out, claimed there, with absolute URIs, as ranks work in other folders."""
    return TrainRun(
        recipe=request.recipe,
        data=tuple(map(storage.to_absolute, request.data)),
        out=storage.to_absolute(request.out),
        until_images=request.until_images,
        run_id=claim_run(request.recipe, datasets, request.out, request.mix),
        tracking_uri=tracking_uri,
        tags=_make_tags(datasets),
        inputs=tuple(_list_inputs(request.recipe, datasets)),
        mix=request.mix,
        num_loader_workers=request.num_loader_workers,
        photo_operations=photo_operations or {},
        teachers_at=resolve_weights_folder(),
    )


def _make_tags(datasets: tuple[Dataset, ...]) -> dict[str, str]:
    """Tags by which the MLflow run is found; the code is that of the newest start, checkpoints hold older ones."""
    digests = ",".join(dataset.manifest_sha256 for dataset in datasets)
    return {
        "lacuna.datasets": digests,
        "lacuna.commit": read_git_commit() or "",
        "lacuna.code": compute_code_revision(),
    }


def _list_inputs(recipe: TrainRecipe, datasets: tuple[Dataset, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield name, SHA-256 and URI of every dataset and file of weights."""
    for dataset in datasets:
        yield dataset.name, dataset.manifest_sha256, dataset.uri
    for name, digest in hash_weights(recipe.objective.needs_weights).items():
        yield name, digest, storage.join(resolve_weights_folder(), f"{name}.safetensors")
