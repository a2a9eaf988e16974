"""`lacuna probe`: what this machine does at most, to hold the speed of the other verbs against."""

import math
import os
from dataclasses import dataclass
from typing import Any

from jobs.cli import run_as_module
from jobs.progress import say
from jobs.recipes import find_recipe
from pipelines.data.build.benchmark import measure_dataset_rates, measure_storage_rates, measure_processor_rates
from pipelines.data.config import DatasetConfig
from pipelines.manifest import open_dataset
from pipelines.records import UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.rate import count_needed_loaders, measure_loader_rates


@dataclass(frozen=True)
class Arguments:
    """Measure one core of this machine, the place of --out, and the reading of --data; about 20 seconds.

    Rates of the processor are for one core and hardly change while others use the machine; those of places do, and
    those of --recipe, for which loader processes run on all cores but one.
    """

    out: str | None = None
    """Folder, or prefix on an object store, to write to and read from; a temporary folder if not given."""
    data: str | None = None
    """Dataset to read from."""
    recipe: str | None = None
    """Recipe whose stream is read from --data, to tell how many loader processes a training with it needs."""
    step_seconds: float | None = None
    """How long a step of that training takes on a worker, without its data."""
    workers: int = 1
    """The workers that share its batches; those of one machine share its cores too."""
    budget_seconds: float = 20.0
    """How long to measure altogether; starting up is not counted."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Measures, shows a table and reports."""
    if not 0 < arguments.budget_seconds < math.inf:
        raise UsageError(f"--budget-seconds is {arguments.budget_seconds}: it must be more than 0 and have an end")
    if arguments.recipe is None and (arguments.step_seconds is not None or arguments.workers != 1):
        raise UsageError("--step-seconds and --workers are for a recipe: give it with --recipe")
    share = arguments.budget_seconds / (2 + (arguments.data is not None) + (arguments.recipe is not None))
    num_cores = len(os.sched_getaffinity(0))
    loading = _loading(arguments, num_cores, share) if arguments.recipe is not None else {}
    read = measure_dataset_rates(arguments.data, share) if arguments.data is not None else {}
    rates = measure_storage_rates(arguments.out, share) | read | measure_processor_rates(share, DatasetConfig("folder").masks) | loading
    rounded = {name: rate if rate is None else float(f"{rate:.4g}") for name, rate in rates.items()}
    for name, rate in rounded.items():
        say(f"{name.replace('_', ' '):<46} {'none suffice' if rate is None else f'{rate:,.2f}':>12}")
    return {"num_cores": num_cores, **rounded}


def _loading(arguments: Arguments, num_cores: int, seconds: float) -> dict[str, float | None]:
    """What loader processes make of the dataset under the recipe, and how many of them the step needs."""
    recipe = find_recipe(str(arguments.recipe))
    if arguments.data is None:
        raise UsageError("--recipe reads a dataset: give it with --data")
    if arguments.workers < 1 or recipe.batch_size % arguments.workers:
        raise UsageError(f"--workers is {arguments.workers}: the batch of {recipe.batch_size} photos must divide by it")
    if arguments.step_seconds is not None and not 0 < arguments.step_seconds < math.inf:
        raise UsageError(f"--step-seconds is {arguments.step_seconds}: it must be more than 0 and have an end")
    own = recipe.batch_size // arguments.workers
    stream = Stream((open_dataset(arguments.data),), recipe.stream, recipe.seed)
    rates = measure_loader_rates(stream, own, max(1, num_cores - 1), seconds)  # a core is the worker's own
    told: dict[str, float | None] = {f"images_per_second_of_{count}_loaders": rate for count, rate in rates.items()}
    if arguments.step_seconds is not None:
        told["count_needed_loaders"] = count_needed_loaders(rates, own, arguments.step_seconds)
    return told


if __name__ == "__main__":
    run_as_module("probe")
