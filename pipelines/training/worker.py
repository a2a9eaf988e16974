"""The work of each process of a training: restore, train, commit.

`incidents/` holds what the streams had to make good, a file for each rank and checkpoint that has any; that of rank 0
also names damaged checkpoints that a start has skipped.
"""

import json
import logging
from collections.abc import Callable
from typing import Any, Final

import torch

from infra import storage
from infra.retry import retry_transient
from infra.weights import load_weights
from infra.world import World
from pipelines.checkpoints import list_committed_after, find_latest_checkpoint
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import canonical_json
from pipelines.stream.batching import Stream
from pipelines.training.checkpointer import Checkpointer
from pipelines.training.flops import DeviceFlops, measure_peak
from pipelines.training.heartbeat import Heartbeat
from pipelines.training.loop import Point, train
from pipelines.training.precision import prepare_process
from pipelines.training.run import TrainRun, refuse_other_data
from pipelines.training.state import Ledger, TrainState

INCIDENTS: Final = "incidents"

OnPoint = Callable[[int, Point], None]
"""Called on each rank with its number at every point of the curves."""

log = logging.getLogger(__name__)


def _ignore(*_: object) -> None:
    """Ignore a beat or a point."""


def run_rank(
    run: TrainRun, world: World, report: Any, send: Callable[[Any], None] = _ignore, on_point: OnPoint = _ignore
) -> str:
    """Restore, train and commit on one rank; returns the URI of the last checkpoint, on rank 0.

    `report` gets the newest point at each checkpoint, `send` a `Beat` every few seconds.
    """
    prepare_process(run.recipe.precision, deterministic=run.recipe.deterministic)
    with Heartbeat(world.rank, send) as heartbeat:
        # Restore the newest checkpoint.
        datasets = tuple(open_dataset(uri) for uri in run.data)
        state = _restore_state(run, datasets, world)
        stream = Stream(datasets, run.recipe.stream, run.recipe.seed, run.mix)
        with Checkpointer(run, state, datasets, world, heartbeat) as checkpointer:
            # Train, unless the last start was lost between its last commit and its end.
            callbacks = _RankCallbacks(run, world, checkpointer, heartbeat, report, on_point)
            train(
                run.recipe, state, stream, world, callbacks,
                until_images=0 if checkpointer.best.is_old(state.images_seen) else run.until_images,
                num_loader_workers=run.num_loader_workers, flops=_measure_flops(run, world),
            )  # fmt: skip
            return checkpointer.finish()


class _RankCallbacks:
    """Connects the loop of a rank with its checkpointer, its heartbeat and Ray."""

    def __init__(
        self,
        run: TrainRun,
        world: World,
        checkpointer: Checkpointer,
        heartbeat: Heartbeat,
        report: Any,
        on_point: OnPoint,
    ) -> None:
        self._run, self._world, self._report, self._on_point = run, world, report, on_point
        self._checkpointer, self.begin_step = checkpointer, heartbeat.step
        self._incidents = _list_skipped_checkpoints(run.out, checkpointer.images_seen) if world.rank == 0 else []
        self.report_incident = self._incidents.append

    def observe(self, point: Point) -> None:
        """Show the point in the launching process."""
        self._checkpointer.show(point)
        self._on_point(self._world.rank, point)

    def commit(self, points: list[Point]) -> bool:
        """Commit; True where the training stops early."""
        clock = self._checkpointer.images_seen
        _publish_incidents(self._run, clock, self._world.rank, self._incidents)
        self._checkpointer.commit(points)
        self._report(points[-1].values | {"images_seen": clock})
        return self._checkpointer.best.is_old(clock)


def _measure_flops(run: TrainRun, world: World) -> DeviceFlops | None:
    operations = run.photo_operations
    return DeviceFlops(operations, measure_peak(world.device, run.recipe.precision)) if operations else None


def _restore_state(run: TrainRun, datasets: tuple[Dataset, ...], world: World) -> TrainState:
    """State of the newest checkpoint, or a fresh one where there is none; all ranks begin at the same clock."""
    teachers = load_weights(run.recipe.objective.needs_weights, run.teachers_at)
    state = TrainState(run.recipe, teachers, world.device)
    checkpoint = retry_transient(lambda: find_latest_checkpoint(run.out), log.warning)
    if checkpoint is not None:
        refuse_other_data(run.out, checkpoint.state["datasets"], datasets)
        state.restore(checkpoint)
        ledger = Ledger(checkpoint.state["ledger"]["photos_digest"])
        state.ledger = ledger if world.rank == 0 else Ledger()
    _refuse_other_clocks(state.images_seen, world)
    if world.rank == 0:
        _remove_incidents(run.out, state.images_seen)
    return state


def _refuse_other_clocks(images_seen: int, world: World) -> None:
    """Raise RuntimeError where other ranks start at another clock."""
    clock = torch.tensor([images_seen], dtype=torch.float64)
    world.average([clock])
    if float(clock) != images_seen:
        raise RuntimeError(f"rank {world.rank} starts at {images_seen} images and others elsewhere: storage is stale")


def _list_skipped_checkpoints(out: str, images_seen: int) -> list[str]:
    """A line for each committed checkpoint that this start had to skip, for the report of the training."""
    clocks = retry_transient(lambda: list_committed_after(out, images_seen), log.warning)
    return [
        f"checkpoint {clock} is damaged or gone: the training went on from {images_seen} images" for clock in clocks
    ]


def _publish_incidents(run: TrainRun, images_seen: int, rank: int, incidents: list[str]) -> None:
    """Publish and forget the incidents of a rank since the last checkpoint, if any."""
    if incidents:
        name = f"{images_seen:012d}-{rank:05d}.json"
        uri, lines = storage.join(run.out, INCIDENTS, name), canonical_json(incidents)
        retry_transient(lambda: storage.publish(uri, lines), log.warning)
        incidents.clear()


def _remove_incidents(out: str, images_seen: int) -> None:
    """Remove incidents after this clock, of a start that was lost: their steps are made again."""
    for name in _list_incident_files(out):
        if name > f"{images_seen:012d}.":
            storage.remove(storage.join(out, INCIDENTS, name))


def _list_incident_files(out: str) -> list[str]:
    folder = storage.join(out, INCIDENTS)
    return [name for name, _ in storage.list_files(folder)] if storage.exists(folder) else []


def read_incidents(out: str) -> list[str]:
    """All that a run had to make good: replaced samples, repeated requests, damaged checkpoints."""
    files = (storage.join(out, INCIDENTS, name) for name in _list_incident_files(out))
    return [line for file in files for line in _parse_incidents(file)]


def _parse_incidents(uri: str) -> list[str]:
    try:
        return list(json.loads(storage.read_bytes(uri)))
    except (ValueError, TypeError):
        return [f"{uri} is damaged: its incidents of the stream cannot be read"]
