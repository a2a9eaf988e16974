"""What each process of a training does: restore, train, commit.

`incidents/` holds what the streams had to make good, a file for each rank and checkpoint that has any; in that of rank
0 also which damaged checkpoints a start has passed over.
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
from pipelines.checkpoints import find_latest_checkpoint, list_committed_after
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import canonical_json
from pipelines.stream.batching import Stream
from pipelines.training.checkpointer import Checkpointer
from pipelines.training.flops import Limit, measure_peak
from pipelines.training.heartbeat import Beat, Heartbeat
from pipelines.training.state import Ledger
from pipelines.training.loop import Point, train
from pipelines.training.precision import prepare_process
from pipelines.training.run import TrainRun, refuse_other_data
from pipelines.training.state import TrainState

INCIDENTS: Final = "incidents"

log = logging.getLogger(__name__)


def _unheard(_: Beat) -> None:
    """Takes a sign of life that nobody waits for."""


def run_rank(run: TrainRun, world: World, report: Any, send: Callable[[Beat], None] = _unheard) -> str:
    """What one rank does: restore, train, commit. Returns the URI of the last checkpoint.

    `report` gets the newest point at each checkpoint, `send` a sign of life every few seconds.
    """
    with Heartbeat(world.rank, send) as pulse:
        return _run_rank(run, world, report, pulse)


def _run_rank(run: TrainRun, world: World, report: Any, pulse: Heartbeat) -> str:
    prepare_process(run.recipe.precision, deterministic=run.recipe.deterministic)
    datasets = tuple(open_dataset(uri) for uri in run.data)
    state = _begun(run, datasets, world)
    stream = Stream(datasets, run.recipe.stream, run.recipe.seed, run.mix)
    incidents = _refused_checkpoints(run.out, state.images_seen) if world.rank == 0 else []
    with Checkpointer(run, state, datasets, world, pulse) as committer:

        def observe(point: Point) -> None:
            committer.show(point)
            run.observed(world.rank, point)

        def commit(points: list[Point]) -> bool:
            _publish_incidents(run, state.images_seen, world.rank, incidents)
            committer.commit(points)
            report(points[-1].values | {"images_seen": state.images_seen})
            return committer.best.is_old(state.images_seen)

        over = committer.best.is_old(state.images_seen)  # and lost between its last commit and its end
        train(
            run.recipe, state, stream, world, until_images=0 if over else run.until_images, observe=observe,
            commit=commit, tell=incidents.append, alive=pulse.step, num_loader_workers=run.num_loader_workers,
            limit=_limit(run, world),
        )  # fmt: skip
        return committer.finish()


def _limit(run: TrainRun, world: World) -> Limit | None:
    operations = run.photo_operations
    return Limit(operations, measure_peak(world.device, run.recipe.precision)) if operations else None


def _begun(run: TrainRun, datasets: tuple[Dataset, ...], world: World) -> TrainState:
    """The state of the newest checkpoint, or a fresh one where there is none; all ranks begin at the same clock."""
    teachers = load_weights(run.recipe.objective.needs_weights, run.teachers_at)
    state = TrainState(run.recipe, teachers, world.device)
    checkpoint = retry_transient(lambda: find_latest_checkpoint(run.out), log.warning)
    if checkpoint is not None:
        refuse_other_data(run.out, checkpoint.state["datasets"], datasets)
        state.restore(checkpoint)
        ledger = Ledger(checkpoint.state["ledger"]["photos_digest"])
        state.ledger = ledger if world.rank == 0 else Ledger()
    _agree(state.images_seen, world)
    if world.rank == 0:
        _drop_incidents(run.out, state.images_seen)
    return state


def _refused_checkpoints(out: str, images_seen: int) -> list[str]:
    """A line for each committed checkpoint that this start had to pass over, for the report of the training."""
    clocks = retry_transient(lambda: list_committed_after(out, images_seen), log.warning)
    return [
        f"checkpoint {clock} is damaged or gone: the training went on from {images_seen} images" for clock in clocks
    ]


def _publish_incidents(run: TrainRun, images_seen: int, rank: int, incidents: list[str]) -> None:
    """What a rank's stream had to make good since the last checkpoint, if anything, in a file of its own."""
    if incidents:
        name = f"{images_seen:012d}-{rank:05d}.json"
        uri, lines = storage.join(run.out, INCIDENTS, name), canonical_json(incidents)
        retry_transient(lambda: storage.publish(uri, lines), log.warning)
        incidents.clear()


def _drop_incidents(out: str, images_seen: int) -> None:
    """Those behind this clock: the steps in which they befell a start that was lost are made again."""
    for name in _incident_files(out):
        if name > f"{images_seen:012d}.":
            storage.remove(storage.join(out, INCIDENTS, name))


def _incident_files(out: str) -> list[str]:
    folder = storage.join(out, INCIDENTS)
    return [name for name, _ in storage.list_files(folder)] if storage.exists(folder) else []


def read_incidents(out: str) -> list[str]:
    """All that a run had to make good: replaced samples, repeated requests, damaged checkpoints."""
    files = (storage.join(out, INCIDENTS, name) for name in _incident_files(out))
    return [line for file in files for line in _incidents(file)]


def _incidents(uri: str) -> list[str]:
    try:
        return list(json.loads(storage.read_bytes(uri)))
    except (ValueError, TypeError):
        return [f"{uri} is damaged: what the stream made good there cannot be read"]


def _agree(images_seen: int, world: World) -> None:
    clock = torch.tensor([images_seen], dtype=torch.float64)
    world.average([clock])
    if float(clock) != images_seen:
        raise RuntimeError(f"rank {world.rank} starts at {images_seen} images and others elsewhere: storage is stale")
