"""`lacuna resume-check`: proves on your recipe, data and cluster that a killed training ends as an undisturbed one.

Two trainings of the same first steps: one straight through; in the other, rank 0 is killed (SIGKILL) between two
checkpoints, and goes on. Then all tensors of both last checkpoints are compared, bit for bit, and the curves too. The
report names the stage that the steps came to: later ones are not tried.
"""

import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import tyro

from infra import storage
from infra.cluster import is_ours
from infra.weights import resolve_weights_folder
from jobs import train
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.progress import progress, say
from jobs.recipes import find_recipe
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import UsageError
from pipelines.training.launcher import Device, launch
from pipelines.training.loop import MEASURES, Point
from pipelines.training.mlflow_sync import read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, claim_run

_TOLD: Final = 20
_KILLED: Final = "killed.json"


@dataclass(frozen=True)
class Arguments:
    """Check that a training of this recipe, killed and resumed, ends bit for bit where an undisturbed one does."""

    recipe: tyro.conf.Positional[str]
    """Name of the recipe."""
    data: tuple[str, ...]
    """URIs of datasets."""
    workers: int = 1
    """Processes that train together."""
    device: Device = "auto"
    """Where they train, as for `lacuna train`."""
    loader_workers: int = 0
    """Processes that make the batches of each worker ahead."""
    steps: int = 12
    """Steps of each of the two trainings; a multiple of four, for their checkpoints."""
    out: str | None = None
    """URI of a folder for both, seen by all nodes and removed at the end; one on this machine if not given."""


@dataclass(frozen=True)
class KilledOnce(TrainRun):
    """A run whose rank 0 ends itself by SIGKILL, once, at a clock between two checkpoints."""

    fatal_images: int = 0

    def observed(self, rank: int, point: Point) -> None:
        """Ends the process where it is time to and it has not been done before."""
        done = storage.join(self.out, _KILLED)
        if rank == 0 and point.images_seen == self.fatal_images and not storage.exists(done):
            storage.publish(done, b"{}")
            os.kill(os.getpid(), signal.SIGKILL)


def run(arguments: Arguments) -> dict[str, Any]:
    """Trains twice and compares; raises VerbError where the ends differ."""
    recipe = _shortened(find_recipe(arguments.recipe), arguments)
    datasets = tuple(open_dataset(uri) for uri in arguments.data)
    until_images = arguments.steps * recipe.batch_size
    train.checked(_as_training(arguments), recipe, datasets, until_images)
    with _folder(arguments.out) as folder:
        straight = _claimed(arguments, recipe, datasets, storage.join(folder, "straight"))
        killed = _claimed(arguments, recipe, datasets, storage.join(folder, "killed"))
        fatal = killed.until_images - recipe.batch_size
        broken = KilledOnce(**vars(killed), fatal_images=fatal)
        ends = [_trained(of, arguments, what) for of, what in ((straight, "straight"), (broken, "killed"))]
        if not storage.exists(storage.join(killed.out, _KILLED)):
            raise VerbError("the second training was not killed: nothing is proved", {})
        differing = sorted(_differing(*ends)) + _other_points(straight.out, killed.out)
        report = {
            "images_seen": ends[0].images_seen,
            "killed_at": fatal,
            "stages": sorted({end.state["stage"] for end in ends}),
            "num_tensors": sum(len(ends[0].tensors(_name(file))) for file in ends[0].state["files"]),
            "equal": not differing,
            "differing": differing[:_TOLD],
        }
    if differing:
        raise VerbError(f"the resumed training differs in {len(differing)} places, first {differing[0]}", report)
    return report


def _shortened(recipe: TrainRecipe, arguments: Arguments) -> TrainRecipe:
    """The same training, with four checkpoints in the steps that are asked for and a point at each step.

    In deterministic mode: on a GPU two runs differ without it, killed or not.
    """
    if arguments.out is None and not is_ours():
        raise UsageError("--out is not given: on a cluster name a folder that all of its nodes see")
    if arguments.steps < 4 or arguments.steps % 4:
        raise UsageError(f"--steps is {arguments.steps}: take a multiple of four, 4 or more")
    if arguments.steps * recipe.batch_size > recipe.images:
        raise UsageError(f"--steps is {arguments.steps}: the recipe ends after {recipe.images // recipe.batch_size}")
    every = arguments.steps // 4 * recipe.batch_size
    return replace(recipe, checkpoint_images=every, metric_images=recipe.batch_size, deterministic=True)


def _as_training(arguments: Arguments) -> train.Arguments:
    """The command whose training this is the beginning of."""
    return train.Arguments(
        arguments.recipe,
        arguments.data,
        "",
        arguments.workers,
        device=arguments.device,
        loader_workers=arguments.loader_workers,
    )


@contextmanager
def _folder(uri: str | None) -> Iterator[str]:
    """A folder of our own, gone afterwards; raises InvalidURIError where none can be."""
    if uri is None:
        with tempfile.TemporaryDirectory(prefix="lacuna-resume-check-") as path:
            yield path
        return
    storage.to_writable_folder(uri)
    folder = storage.to_absolute(storage.join(uri, f"resume-check-{secrets.token_hex(4)}"))
    try:
        yield folder
    finally:
        storage.remove(folder)


def _claimed(arguments: Arguments, recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str) -> TrainRun:
    data, until = tuple(map(storage.to_absolute, arguments.data)), arguments.steps * recipe.batch_size
    return TrainRun(
        recipe, data, out, until, claim_run(recipe, datasets, out), "", num_loader_workers=arguments.loader_workers,
        teachers_at=resolve_weights_folder(),
    )  # fmt: skip


def _trained(of: TrainRun, arguments: Arguments, what: str) -> Checkpoint:
    with progress() as show:
        uri = launch(
            of,
            arguments.workers,
            lambda point: show(what, point["images_seen"], of.until_images),
            arguments.device,
            warn=say,
        )
    return open_checkpoint(uri)


def _differing(one: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """What is not the same in both: the photos, tensors by file and name."""
    if one.state["ledger"] != other.state["ledger"]:
        yield "the photos that were seen"
    files = one.state["files"], other.state["files"]
    for file in sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name)):
        a, b = (end.tensors(_name(file)) if file in end.state["files"] else {} for end in (one, other))
        for name in a.keys() | b.keys():
            if name not in a or name not in b or _bits(a[name]) != _bits(b[name]):
                yield f"{_name(file)}: {name}"


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _other_points(one: str, other: str) -> list[str]:
    """Points of the curves that are not the same in both, speeds apart."""
    curves = [
        {p["images_seen"]: {k: v for k, v in p["values"].items() if k not in MEASURES} for p in read_points(out)}
        for out in (one, other)
    ]
    clocks = sorted(curves[0].keys() | curves[1].keys())
    return [f"point at {clock} images" for clock in clocks if curves[0].get(clock) != curves[1].get(clock)]


def _name(file: str) -> str:
    return file.removesuffix(".safetensors")


if __name__ == "__main__":
    run_as_module("resume-check")
