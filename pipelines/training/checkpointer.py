"""Writes the durable files of a training under `--out`: points of curves, sheets, checkpoints; copies them to MLflow.

`metrics/<clock>.json` holds the points that lead up to the checkpoint of that clock and is published before it, so that
curves can be sent again, each point once, whatever became of the tracking server.
"""

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from infra import storage
from infra.retry import retry_transient
from infra.settings import compute_code_revision
from infra.world import World
from pipelines.checkpoints import BEST, Checkpoint, find_latest_checkpoint, open_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, JobError, canonical_json
from pipelines.training.heartbeat import Heartbeat
from pipelines.training.loop import Point
from pipelines.training.mlflow_sync import MlflowSync, format_points, read_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.state import Snapshot, TrainState
from pipelines.training.validation import BEST_METRIC, open_validator

PROGRESS_FILE: Final = "progress.json"

log = logging.getLogger(__name__)


class Checkpointer:
    """Commits a training's state while it goes on.

    A commit takes a copy of the state; rank 0 writes it in a thread of its own during the next steps, the checkpoint
    last. The commit counts once all ranks know that it is durable: at the next one, or at the training's end. Another
    thread talks to the tracking server, so that no step waits for it.
    """

    def __init__(
        self, run: TrainRun, state: TrainState, datasets: tuple[Dataset, ...], world: World, heartbeat: Heartbeat
    ) -> None:
        self._run, self._state, self._datasets, self._world = run, state, datasets, world
        self._heartbeat = heartbeat
        self._validator = open_validator(datasets[0], run.recipe)
        self.best = retry_transient(lambda: find_best(run.out, run.recipe, state.images_seen), log.warning)
        self._mlflow, self._code = MlflowSync(run), compute_code_revision()  # before files change
        self._writes, self._uploads, self._shows = (ThreadPoolExecutor(max_workers=1) for _ in range(3))
        self._write: Future[None] | None = None
        self._upload: Future[None] | None = None
        self._shown: Future[None] | None = None
        self._newest_progress, self._published_progress = b"", b""

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> None:
        """Wait for the thread that writes, and raise its error.

        After an error in the block, neither the tracking server nor progress is waited for.
        """
        self._writes.shutdown(wait=True)
        self._shows.submit(self._publish_progress)  # a point that came just as the one before was published
        for others in (self._uploads, self._shows):
            others.shutdown(wait=fault is None)
        of_write = None if self._write is None else self._write.exception()
        if of_write is not None and of_write is not fault:
            raise of_write from fault

    @property
    def images_seen(self) -> int:
        """Clock of the state."""
        return self._state.images_seen

    def show(self, point: Point) -> None:
        """Publish the newest point for the launching process; raises the error of the last commit.

        No step waits for it: of points that come during a publication the last one is published.
        """
        if self._world.rank == 0:
            self._newest_progress = canonical_json(asdict(point))
            if self._shown is None or self._shown.done():
                self._shown = self._shows.submit(self._publish_progress)
        if self._write is not None and self._write.done():
            self._write.result()

    def _publish_progress(self) -> None:
        while (point := self._newest_progress) != self._published_progress:
            self._published_progress = point
            try:
                self._publish(PROGRESS_FILE, point)
            except Exception as fault:  # noqa: BLE001 - a store's; only the commit must be durable
                log.warning("progress is not shown: %s", fault)

    def commit(self, points: list[Point]) -> None:
        """Score held-out photos, all ranks together; begin this commit when the last one is durable."""
        sheets: Mapping[str, bytes] = {}
        with self._heartbeat.pause():
            # Score held-out photos.
            if self._validator is not None:
                validation = self._validator.score(self._state.eval_generator, self._world)
                sheets = validation.sheets
                points[-1].values.update(validation.values)
                self.best.update(self._state.images_seen, validation.values)
            # Write a copy of the state in a thread.
            digest = self._state.ledger.sum_over(self._world)
            self.settle()
            if self._world.rank == 0:
                snapshot = self._state.snapshot(self._collect_facts(digest))
                write = partial(self._publish_all, snapshot, points, sheets, self.best.kept)
                self._write = self._writes.submit(retry_transient, write, log.warning)

    def settle(self) -> None:
        """Wait, all ranks together, until the last commit is durable; raises the error that prevents it."""
        if self._write is not None:
            self._write.result()
        self._world.barrier()

    def finish(self) -> str:
        """Settle; returns the URI of the checkpoint that the training is for."""
        self.settle()
        if self._world.rank:
            return ""
        return retry_transient(lambda: open_checkpoint(self._run.out), log.warning).uri

    def _publish_all(
        self, snapshot: Snapshot, points: list[Point], sheets: Mapping[str, bytes], kept: tuple[int, ...]
    ) -> None:
        """Publish sheets, points and checkpoint in this order, then wake the thread for the tracking server."""
        clock = f"{snapshot.images_seen:012d}"
        if is_superseded(self._run):
            raise JobError(f"another command has begun to train at {self._run.out}: this one has written nothing more")
        with self._heartbeat.mark_writing():
            for name, sheet in sheets.items():
                self._publish(f"{name}/{clock}.png", sheet)
            self._publish(f"metrics/{clock}.json", format_points([asdict(point) for point in points]))
            snapshot.save(self._run.out, kept)
        if self._upload is None or self._upload.running() or self._upload.done():
            self._upload = self._uploads.submit(self._mlflow.sync)  # one that has not begun sends this commit too

    def _publish(self, name: str, data: bytes) -> None:
        storage.publish(storage.join(self._run.out, name), data)

    def _collect_facts(self, photos_digest: int) -> dict[str, Any]:
        """Facts that a checkpoint holds beside its tensors."""
        batch = self._run.recipe.batch_size
        return {
            "run_id": self._run.run_id,
            "recipe": self._run.recipe.as_json(),
            "network": self._run.recipe.network,
            "size_px": self._run.recipe.stream.size_px,
            "procedure": asdict(self._run.recipe.procedure),
            "stage": self._state.objective.find_stage(self._state.images_seen).name,
            "datasets": [d.manifest_sha256 for d in self._datasets],
            "code_revision": self._code,
            BEST: (self.best.images_seen or None) if self.best.kept else None,
            "ledger": {
                "num_steps": self._state.images_seen // batch,
                "batch_size": batch,
                "photos_digest": photos_digest,
            },
        }


@dataclass
class Best:
    """The clock of the checkpoint with the best score on held-out photos, and the time it may stay the best."""

    early_stop_images: int | None
    images_seen: int = 0
    score: float = -math.inf

    def update(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Take a checkpoint as the best where its score is higher."""
        if values.get(BEST_METRIC, -math.inf) > self.score:
            self.images_seen, self.score = images_seen, values[BEST_METRIC]

    def is_old(self, images_seen: int) -> bool:
        """Whether no better one has come for as long as the recipe waits."""
        return self.early_stop_images is not None and images_seen - self.images_seen >= self.early_stop_images

    @property
    def kept(self) -> tuple[int, ...]:
        """Clocks whose checkpoints must stay."""
        return () if self.early_stop_images is None else (self.images_seen,)


def find_best(out: str, recipe: TrainRecipe, until: int) -> Best:
    """Best of a run up to this clock, by its points; points are read only where the recipe stops early."""
    best = Best(recipe.early_stop_images)
    for point in read_points(out, until=until) if recipe.early_stop_images is not None else ():
        best.update(point["images_seen"], point["values"])
    return best


def is_over(out: str, recipe: TrainRecipe, until_images: int) -> bool:
    """Whether the run has come to this clock or stopped early before it.

    Raises CorruptDataError where points are missing by which a training that stops early decides.
    """
    newest = find_latest_checkpoint(out)
    if newest is None:
        return False
    clock = newest.images_seen
    _refuse_lost_best(out, recipe, newest)
    return clock >= until_images or find_best(out, recipe, clock).is_old(clock)


def _refuse_lost_best(out: str, recipe: TrainRecipe, newest: Checkpoint) -> None:
    """Raise CorruptDataError where the points of the best checkpoint are missing: another would take its place."""
    best = newest.state.get(BEST)
    if recipe.early_stop_images is not None and best and not read_points(out, best - 1, best):
        raise CorruptDataError(
            f"{storage.join(out, 'metrics')} has no points of {best} images, the best of {newest.uri}: restore them or "
            "train at another --out"
        )
