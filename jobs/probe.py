"""`lacuna probe`: what this machine does at most, to hold the speed of the other verbs against."""

import os
from dataclasses import dataclass
from typing import Any

from jobs.cli import as_module
from jobs.progress import say
from pipelines.data.probe import dataset_rates, place_rates, processor_rates
from pipelines.data.recipe import ShardRecipe
from pipelines.records import Refused


@dataclass(frozen=True)
class Arguments:
    """Measure one core of this machine, the place of --out, and the reading of --data; about 20 seconds.

    Rates of the processor are for one core and hardly change while others use the machine; those of places do.
    """

    out: str | None = None
    """Folder, or prefix on an object store, to write to and read from; a temporary folder if not given."""
    data: str | None = None
    """Dataset to read from."""
    budget_seconds: float = 20.0
    """How long to measure altogether."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Measures, shows a table and reports."""
    if not arguments.budget_seconds > 0:
        raise Refused(f"--budget-seconds is {arguments.budget_seconds}: it must be more than 0")
    places = 1 if arguments.data is None else 2
    share = arguments.budget_seconds / (1 + places)
    read = dataset_rates(arguments.data, share) if arguments.data is not None else {}
    rates = place_rates(arguments.out, share) | read | processor_rates(share, ShardRecipe("folder").masks)
    for name, rate in rates.items():
        say(f"{name.replace('_', ' '):<46} {rate:>12,.2f}")
    return {"num_cores": len(os.sched_getaffinity(0)), **{name: float(f"{rate:.4g}") for name, rate in rates.items()}}


if __name__ == "__main__":
    as_module("probe")
