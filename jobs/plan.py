"""What a training would take, as `lacuna train --dry-run` tells it, before there are photos, weights or GPUs for it."""

from typing import Any, Final

import torch
from torch import Tensor

from infra.cluster import is_ours
from infra.tracking_values import flatten
from infra.weights import WeightsError, load_weights
from jobs.faults import VerbError
from jobs.progress import say
from nets import TEACHER_SHAPES
from pipelines.manifest import Dataset
from pipelines.stream.reading import ShardReader
from pipelines.training.dry_run import rehearse
from pipelines.training.flops import measure_peak
from pipelines.training.launcher import Device
from pipelines.training.precision import prepare_process
from pipelines.training.recipe import TrainRecipe

_LARGE: Final = 9999
"""Numbers above are told with commas."""


def planned(
    recipe: TrainRecipe, datasets: tuple[Dataset, ...], until_images: int, num_workers: int, device: Device
) -> dict[str, Any]:
    """The recipe as it is resolved, and what it will take; raises UsageError where it cannot run."""
    num_photos = sum(ShardReader(datasets, "train").counts) if datasets else 0
    num_masks = len(recipe.stream.masks)
    num_samples = recipe.batch_size // num_workers // recipe.grad_accumulation * num_masks
    on, rehearsal = _worker_device(device, num_workers), rehearse(recipe, _teachers(recipe))
    operations = rehearsal.operations(until_images, num_masks)
    return {
        "recipe": recipe.as_json(),
        "num_parameters": rehearsal.num_parameters,
        "num_steps": until_images // recipe.batch_size,
        "num_images": until_images,
        "num_epochs": round(until_images / num_photos, 2) if num_photos else None,
        "num_checkpoints": -(-until_images // recipe.checkpoint_images),
        "checkpoint_bytes": rehearsal.checkpoint_bytes,
        "memory_bytes_of_a_worker": rehearsal.memory_bytes(num_samples, on),
        "memory_bytes_of_writing": rehearsal.writing_bytes,
        "num_operations": operations,
        "hours_at_least": _hours(operations / num_workers, on, recipe),
        "num_gpus_here": torch.cuda.device_count(),
    }


def told_plan(plan: dict[str, Any], missing: list[str]) -> dict[str, Any]:
    """The plan, shown line by line as well; raises VerbError with it where something is missing."""
    told_settings({name: value for name, value in plan.items() if value is not None})
    if missing:
        raise VerbError("; and ".join(missing), plan | {"missing": missing}, exit_code=2)
    return plan


def told_settings(settings: dict[str, Any]) -> None:
    """Shows settings line by line, nested ones by their paths."""
    for name, value in flatten(settings).items():
        say(f"{name.replace('_', ' '):<46} {_spelled(value)}")


def _spelled(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) > _LARGE else str(value)


def _teachers(recipe: TrainRecipe) -> dict[str, dict[str, Tensor]]:
    """The weights of teachers; for a file that is not there its shapes alone, which are all that a rehearsal wants."""
    teachers: dict[str, dict[str, Tensor]] = {}
    for name in recipe.objective.needs_weights:
        try:
            teachers |= load_weights([name])
        except WeightsError:
            if name not in TEACHER_SHAPES:
                raise
            teachers[name] = TEACHER_SHAPES[name]()
    return teachers


def _worker_device(device: Device, num_workers: int) -> torch.device:
    """Where a worker trains, as far as can be seen from here."""
    enough = torch.cuda.device_count() >= num_workers
    return torch.device("cuda" if device == "cuda" or (device == "auto" and enough) else "cpu")


def _hours(operations: float, on: torch.device, recipe: TrainRecipe) -> float | None:
    """That a worker takes for so much arithmetic at the best of this machine; None where another will train."""
    if not is_ours() or (on.type == "cuda" and not torch.cuda.is_available()):
        return None
    prepare_process(recipe.precision, deterministic=recipe.deterministic)
    return round(operations / measure_peak(on, recipe.precision) / 3600, 3)
