"""`lacuna probe`: the speed of this machine, to compare the speed of the other verbs with."""

import math
import os
from dataclasses import dataclass
from typing import Any

from jobs.cli import run_as_module
from jobs.options import URI, Name
from jobs.progress import say
from jobs.recipes import find_recipe
from pipelines.data.build.benchmark import measure_dataset_rates, measure_processor_rates, measure_storage_rates
from pipelines.data.config import DatasetConfig
from pipelines.manifest import open_dataset
from pipelines.records import UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.rate import count_needed_loaders, measure_loader_rates
from pipelines.training.preflight import refuse_uneven_shares


@dataclass(frozen=True)
class Arguments:
    """Measure one core of this machine, writing and reading at --out, and reading of --data; about 20 seconds.

    Rates of the processor are for one core, and other programs hardly change them. They do change the rates of --out
    and --data, and of --recipe, for which loader workers run on all cores but one.
    """

    out: URI | None = None
    """Folder or URI to write to and read from; by default a temporary folder."""
    data: URI | None = None
    """URI of a dataset to read."""
    recipe: Name | None = None
    """Name of a recipe: also measure how many loader workers a training with it on --data needs."""
    step_seconds: float | None = None
    """Seconds that a step of that training takes on a worker, without its data."""
    workers: int = 1
    """Number of workers that share each batch of that training."""
    budget_seconds: float = 20.0
    """Seconds to measure in all, without start-up."""


def check(arguments: Arguments) -> None:
    """Raise UsageError for arguments that no machine and no dataset make possible."""
    if not 0 < arguments.budget_seconds < math.inf:
        raise UsageError(f"--budget-seconds is {arguments.budget_seconds}: it must be a finite number greater than 0")
    if arguments.recipe is None:
        if arguments.step_seconds is not None or arguments.workers != 1:
            raise UsageError("--step-seconds and --workers need a recipe: give one with --recipe")
        return
    recipe = find_recipe(arguments.recipe)
    if arguments.data is None:
        raise UsageError("--recipe needs a dataset: give one with --data")
    if arguments.workers < 1:
        raise UsageError(f"--workers is {arguments.workers}: use at least 1")
    refuse_uneven_shares(recipe, arguments.workers)
    if arguments.step_seconds is not None and not 0 < arguments.step_seconds < math.inf:
        raise UsageError(f"--step-seconds is {arguments.step_seconds}: it must be a finite number greater than 0")


def run(arguments: Arguments) -> dict[str, Any]:
    """Measure, show a table and report."""
    check(arguments)
    share = arguments.budget_seconds / (2 + (arguments.data is not None) + (arguments.recipe is not None))
    num_cores = len(os.sched_getaffinity(0))
    loading: dict[str, float | None] = {}
    if arguments.recipe is not None and arguments.data is not None:
        loading = _measure_loading(arguments, arguments.recipe, arguments.data, num_cores, share)
    read = measure_dataset_rates(arguments.data, share) if arguments.data is not None else {}
    rates = (
        measure_storage_rates(arguments.out, share)
        | read
        | measure_processor_rates(share, DatasetConfig("folder").masks)
        | loading
    )
    rounded = {name: rate if rate is None else float(f"{rate:.4g}") for name, rate in rates.items()}
    for name, rate in rounded.items():
        say(f"{name.replace('_', ' '):<46} {'not enough' if rate is None else f'{rate:,.2f}':>12}")
    return {"num_cores": num_cores, **rounded}


def _measure_loading(
    arguments: Arguments, name: str, data: str, num_cores: int, seconds: float
) -> dict[str, float | None]:
    """Rates of loader workers for the recipe on the dataset, and the number of them that its step needs."""
    recipe = find_recipe(name)
    own = recipe.batch_size // arguments.workers
    stream = Stream((open_dataset(data),), recipe.stream, recipe.seed)
    rates = measure_loader_rates(stream, own, max(1, num_cores - 1), seconds)  # one core is for the worker itself
    report: dict[str, float | None] = {f"images_per_second_of_{count}_loaders": rate for count, rate in rates.items()}
    if arguments.step_seconds is not None:
        report["loaders_needed"] = count_needed_loaders(rates, own, arguments.step_seconds)
    return report


if __name__ == "__main__":
    run_as_module("probe")
