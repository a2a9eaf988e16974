"""`lacuna resume-check`: proves on your recipe, data and cluster that a killed training ends as an undisturbed one.

Two trainings of the same first steps: one straight through; in the other, rank 0 is killed (SIGKILL) between two
checkpoints, and resumes. All tensors of both last checkpoints are compared bit for bit, and the curves too. The report
names the stages that the steps came to: later ones are not tried.
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
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import URI, Name
from jobs.progress import progress, say
from jobs.recipes import find_recipe
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.manifest import open_dataset
from pipelines.records import UsageError
from pipelines.training.launcher import Device, launch
from pipelines.training.loop import MEASURES, Point
from pipelines.training.mlflow_sync import read_points
from pipelines.training.preflight import TrainRequest, build_run, count_photo_operations, find_missing, refuse_settings
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun

_DIFFERENCES_SHOWN: Final = 20
_KILLED: Final = "killed.json"


@dataclass(frozen=True)
class Arguments:
    """Check that a training of this recipe, killed and resumed, ends bit for bit where an undisturbed one does."""

    recipe: tyro.conf.Positional[Name]
    """Name of the recipe."""
    data: tuple[URI, ...]
    """URIs of datasets."""
    workers: int = 1
    """Processes that train together."""
    device: Device = "auto"
    """Device of the workers, as for `lacuna train`."""
    loader_workers: int = 0
    """Processes that make the batches of each worker ahead."""
    steps: int = 12
    """Steps of each of the two trainings; a multiple of four, for their checkpoints."""
    out: URI | None = None
    """URI of a folder for both, seen by all nodes and removed at the end; one on this machine if not given."""


@dataclass(frozen=True)
class KillOnce:
    """Kills the process of rank 0 by SIGKILL, once, at a clock between two checkpoints."""

    marker: str
    """URI of the file that records the kill."""
    images_seen: int

    def __call__(self, rank: int, point: Point) -> None:
        """Kill the process at the clock, unless that was done before."""
        if rank == 0 and point.images_seen == self.images_seen and not storage.exists(self.marker):
            storage.publish(self.marker, b"{}")
            os.kill(os.getpid(), signal.SIGKILL)


def run(arguments: Arguments) -> dict[str, Any]:
    """Train twice and compare; raises VerbError where the ends differ."""
    # Check all that the trainings need.
    request = check(arguments)
    datasets = tuple(open_dataset(uri) for uri in arguments.data)
    if missing := list(find_missing(request, datasets)):
        raise UsageError("; and ".join(missing))
    count_photo_operations(request.recipe)
    with _make_folder(arguments.out) as folder:
        # Train straight through, and with a kill one step before the end.
        straight, killed = (
            build_run(replace(request, out=storage.join(folder, name)), datasets) for name in ("straight", "killed")
        )
        kill = KillOnce(storage.join(killed.out, _KILLED), killed.until_images - request.recipe.batch_size)
        ends = [_train(straight, arguments, "straight"), _train(killed, arguments, "killed", kill)]
        if not storage.exists(kill.marker):
            raise VerbError("the second training was not killed: nothing is proved", {})
        # Compare.
        differences = sorted(_compare_checkpoints(*ends)) + _compare_points(straight.out, killed.out)
        report = {
            "images_seen": ends[0].images_seen,
            "killed_at": kill.images_seen,
            "stages": sorted({end.state["stage"] for end in ends}),
            "num_tensors": sum(len(ends[0].tensors(_strip_suffix(file))) for file in ends[0].state["files"]),
            "equal": not differences,
            "differing": differences[:_DIFFERENCES_SHOWN],
        }
    if differences:
        raise VerbError(f"the resumed training differs in {len(differences)} places, first {differences[0]}", report)
    return report


def check(arguments: Arguments) -> TrainRequest:
    """The trainings that are asked for; raises UsageError for settings that no data and no weights make possible."""
    recipe = _shorten(find_recipe(arguments.recipe), arguments)
    request = TrainRequest(
        recipe=recipe,
        data=arguments.data,
        out="",
        until_images=arguments.steps * recipe.batch_size,
        num_workers=arguments.workers,
        min_workers=arguments.workers,
        num_loader_workers=arguments.loader_workers,
        device=arguments.device,
    )
    refuse_settings(request)
    return request


def _shorten(recipe: TrainRecipe, arguments: Arguments) -> TrainRecipe:
    """Recipe with four checkpoints in the steps of the check and a point at each step.

    It is deterministic: without that, two runs on a GPU differ, killed or not.
    """
    if arguments.out is None and not is_ours():
        raise UsageError("--out is not given: on a cluster name a folder that all of its nodes see")
    if arguments.steps < 4 or arguments.steps % 4:
        raise UsageError(f"--steps is {arguments.steps}: use a multiple of 4, at least 4")
    if arguments.steps * recipe.batch_size > recipe.images:
        most = recipe.images // recipe.batch_size
        raise UsageError(f"--steps is {arguments.steps}: the recipe ends after {most} steps")
    every = arguments.steps // 4 * recipe.batch_size
    return replace(recipe, checkpoint_images=every, metric_images=recipe.batch_size, deterministic=True)


@contextmanager
def _make_folder(uri: str | None) -> Iterator[str]:
    """Yield the URI of a new folder, removed after the block; raises InvalidURIError where none can be made."""
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


def _train(run: TrainRun, arguments: Arguments, title: str, on_point: KillOnce | None = None) -> Checkpoint:
    with progress() as show:
        uri = launch(
            run,
            arguments.workers,
            lambda point: show(title, point["images_seen"], run.until_images),
            arguments.device,
            warn=say,
            on_point=on_point,
        )
    return open_checkpoint(uri)


def _compare_checkpoints(one: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """Yield what differs: the photos seen, and tensors by file and name."""
    if one.state["ledger"] != other.state["ledger"]:
        yield "the photos that were seen"
    files = one.state["files"], other.state["files"]
    for file in sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name)):
        a, b = (end.tensors(_strip_suffix(file)) if file in end.state["files"] else {} for end in (one, other))
        for name in a.keys() | b.keys():
            if name not in a or name not in b or _to_bytes(a[name]) != _to_bytes(b[name]):
                yield f"{_strip_suffix(file)}: {name}"


def _to_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _compare_points(one: str, other: str) -> list[str]:
    """Points of the curves that differ, measures of the machine apart."""
    curves = [
        {p["images_seen"]: {k: v for k, v in p["values"].items() if k not in MEASURES} for p in read_points(out)}
        for out in (one, other)
    ]
    clocks = sorted(curves[0].keys() | curves[1].keys())
    return [f"point at {clock} images" for clock in clocks if curves[0].get(clock) != curves[1].get(clock)]


def _strip_suffix(file: str) -> str:
    return file.removesuffix(".safetensors")


if __name__ == "__main__":
    run_as_module("resume-check")
