"""What a training makes durable under `--out`: points of curves, pictures, checkpoints, and their copies in MLflow.

`metrics/<clock>.json` holds the points that lead up to the checkpoint of that clock and is published before it, so that
curves can be told again, each point once, whatever became of the tracking server.
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
from infra.settings import code_revision
from infra.world import World
from pipelines.checkpoints import BEST, Checkpoint, find_latest_checkpoint, open_checkpoint
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, JobError, canonical_json
from pipelines.training.heartbeat import Heartbeat
from pipelines.training.loop import Point
from pipelines.training.mlflow_sync import MlflowSync
from pipelines.training.mlflow_sync import read_points, format_points
from pipelines.training.recipe import TrainRecipe
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.state import Snapshot, TrainState
from pipelines.training.validation import AIM, open_validator

PROGRESS_FILE: Final = "progress.json"

log = logging.getLogger(__name__)


class Checkpointer:
    """Commits a training's state while it goes on.

    A commit takes a copy of the state; rank 0 writes it in a thread of its own during the next steps, the checkpoint
    last. The commit counts once all ranks know that it is durable: when the next one comes, or the training ends. The
    tracking server is talked to by another thread, so that nothing waits for it.
    """

    def __init__(
        self, run: TrainRun, state: TrainState, datasets: tuple[Dataset, ...], world: World, pulse: Heartbeat
    ) -> None:
        self._pulse = pulse
        self._run, self._state, self._datasets, self._world = run, state, datasets, world
        self._watch = open_validator(datasets[0], run.recipe)
        self.best = retry_transient(lambda: best_of(run.out, run.recipe, state.images_seen), log.warning)
        self._teller, self._code = MlflowSync(run), code_revision()  # before files change
        self._writes, self._uploads, self._shows = (ThreadPoolExecutor(max_workers=1) for _ in range(3))
        self._write: Future[None] | None = None
        self._upload: Future[None] | None = None
        self._shown: Future[None] | None = None
        self._newest, self._seen = b"", b""

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> None:
        """Leaves no thread behind that writes, and no fault of it unheard.

        After a fault neither the tracking server is waited for, nor that progress is shown.
        """
        self._writes.shutdown(wait=True)
        self._shows.submit(self._show)  # what came as the one before it had just been shown
        for others in (self._uploads, self._shows):
            others.shutdown(wait=fault is None)
        unheard = None if self._write is None else self._write.exception()
        if unheard is not None and unheard is not fault:
            raise unheard from fault

    def show(self, point: Point) -> None:
        """Leaves the newest point where the launching process looks for it; raises what befell the last commit.

        No step waits for it: of points that come while one is under way the last is shown.
        """
        if self._world.rank == 0:
            self._newest = canonical_json(asdict(point))
            if self._shown is None or self._shown.done():
                self._shown = self._shows.submit(self._show)
        if self._write is not None and self._write.done():
            self._write.result()

    def _show(self) -> None:
        while (point := self._newest) != self._seen:
            self._seen = point
            try:
                self._publish(PROGRESS_FILE, point)
            except Exception as fault:  # noqa: BLE001 - a store's; what must be durable is the commit alone
                log.warning("progress is not shown: %s", fault)

    def commit(self, points: list[Point]) -> None:
        """Scores held-out photos, all ranks together; when the last commit is durable, begins this one."""
        with self._pulse.pausing():
            self._commit(points)

    def _commit(self, points: list[Point]) -> None:
        sheets: Mapping[str, bytes] = {}
        if self._watch is not None:
            observation = self._watch.observe(self._state.eval_generator, self._world)
            sheets = observation.sheets
            points[-1].values.update(observation.values)
            self.best.take(self._state.images_seen, observation.values)
        digest = self._state.ledger.over(self._world)
        self.settle()
        if self._world.rank == 0:
            snapshot = self._state.snapshot(self._facts(digest))
            self._write = self._writes.submit(
                retry_transient, partial(self._publish_all, snapshot, points, sheets, self.best.kept), log.warning
            )

    def settle(self) -> None:
        """Waits, all ranks together, until the last commit is durable; raises what kept it from that."""
        if self._write is not None:
            self._write.result()
        self._world.barrier()

    def finish(self) -> str:
        """Settles; returns the URI of the checkpoint that the training is for."""
        self.settle()
        if self._world.rank:
            return ""
        return retry_transient(lambda: open_checkpoint(self._run.out), log.warning).uri

    def _publish_all(
        self, snapshot: Snapshot, points: list[Point], sheets: Mapping[str, bytes], kept: tuple[int, ...]
    ) -> None:
        clock = f"{snapshot.images_seen:012d}"
        if is_superseded(self._run):
            raise JobError(f"another command has begun to train at {self._run.out}: nothing of this one was written")
        with self._pulse.writing():
            for of, sheet in sheets.items():
                self._publish(f"{of}/{clock}.png", sheet)
            self._publish(f"metrics/{clock}.json", format_points([asdict(point) for point in points]))
            snapshot.save(self._run.out, kept)
        if self._upload is None or self._upload.running() or self._upload.done():
            self._upload = self._uploads.submit(self._teller.tell)  # one that waits will tell this commit too

    def _publish(self, name: str, data: bytes) -> None:
        storage.publish(storage.join(self._run.out, name), data)

    def _facts(self, photos_digest: int) -> dict[str, Any]:
        """What a checkpoint says about itself beside its tensors."""
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
    """The clock of the checkpoint that was the best on held-out photos, and for how long it may stay so."""

    early_stop_images: int | None
    images_seen: int = 0
    score: float = -math.inf

    def take(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Looks at the scores of a checkpoint."""
        if values.get(AIM, -math.inf) > self.score:
            self.images_seen, self.score = images_seen, values[AIM]

    def is_old(self, images_seen: int) -> bool:
        """Whether nothing better has come for longer than the recipe waits."""
        return self.early_stop_images is not None and images_seen - self.images_seen >= self.early_stop_images

    @property
    def kept(self) -> tuple[int, ...]:
        """Clocks whose checkpoints are not to be dropped."""
        return () if self.early_stop_images is None else (self.images_seen,)


def best_of(out: str, recipe: TrainRecipe, until: int) -> Best:
    """The best of a run up to this clock, by its points alone; of one that does not stop early nobody asks."""
    best = Best(recipe.early_stop_images)
    for point in read_points(out, until=until) if recipe.early_stop_images is not None else ():
        best.take(point["images_seen"], point["values"])
    return best


def is_over(out: str, recipe: TrainRecipe, until_images: int) -> bool:
    """Whether the run has come to this clock, or ended before for want of anything better, and its end is whole.

    Raises CorruptDataError where points are missing by which a training that stops early decides.
    """
    newest = find_latest_checkpoint(out)
    if newest is None:
        return False
    clock = newest.images_seen
    _refuse_lost_best(out, recipe, newest)
    return clock >= until_images or best_of(out, recipe, clock).is_old(clock)


def _refuse_lost_best(out: str, recipe: TrainRecipe, newest: Checkpoint) -> None:
    """Raises CorruptDataError where the points are gone that made a checkpoint the best.

    Another would take its place.
    """
    best = newest.state.get(BEST)
    if recipe.early_stop_images is not None and best and not read_points(out, best - 1, best):
        raise CorruptDataError(
            f"{storage.join(out, 'metrics')} has no points of {best} images, the best of {newest.uri}: restore them or "
            "train at another --out"
        )
