"""`lacuna shard`: photos in their own layout -> a dataset of webdataset shards that can be checked and rebuilt."""

import time
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from infra.lock import exclusive
from jobs.cli import as_module
from jobs.progress import progress
from pipelines.data.build import build_dataset
from pipelines.data.recipe import ShardRecipe
from pipelines.data.sources import DATASETS
from pipelines.data.workspace import Plan
from pipelines.records import Refused


@dataclass(frozen=True)
class Arguments:
    """Build a dataset of webdataset shards from photos. The same command again resumes or finds it done."""

    recipe: Annotated[ShardRecipe, tyro.conf.arg(name="")]
    out: str
    """URI of the dataset to make."""
    root: str | None = None
    """URI of the folder that holds the source; `packages` needs none."""
    seed: int = 0
    """Seed of the held-out share and of the stored masks."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Builds and reports."""
    started = time.monotonic()
    plan = Plan(root_of(arguments), arguments.out, arguments.recipe, arguments.seed)
    with exclusive(arguments.out), progress() as show:
        dataset = build_dataset(plan, show)
    rate = dataset.commit["ledger"]["num_inputs"] / (time.monotonic() - started)
    return {
        "dataset": arguments.out,
        **dataset.commit["ledger"],
        "num_shards": dataset.commit["num_shards"],
        "manifest_sha256": dataset.manifest_sha256,
        "images_per_second": round(rate, 1),
    }


def root_of(arguments: Arguments) -> str:
    name = arguments.recipe.source
    if name not in DATASETS:
        raise Refused(f"unknown source {name!r}: known are {', '.join(DATASETS)}")
    default_root = DATASETS[name].default_root
    if arguments.root is not None:
        return arguments.root
    if default_root is None:
        raise Refused(f"--root is missing: give the folder that holds the source {name!r}")
    return default_root()


if __name__ == "__main__":
    as_module("shard")
