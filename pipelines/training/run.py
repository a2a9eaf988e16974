"""A training run: its identity, its records under `--out`, and what each of its processes does.

`run.json` says who the run is and is written once; other settings at the same place are refused with the differing
field. `metrics/<clock>.json` holds the points that lead up to the checkpoint of that clock and is published before it,
so that curves can be told again, each point once, whatever became of the tracking server.
"""

import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch

from infra import storage
from infra.settings import code_revision
from infra.weights import load_weights, weights_sha256
from infra.world import World
from pipelines.checkpoints import BEST, latest_checkpoint, newest_clock, open_checkpoint
from pipelines.manifest import Dataset, open_dataset
from pipelines.records import Refused, canonical_json, first_difference, sha256_hex
from pipelines.stream.batching import Stream
from pipelines.training.loop import Point, train
from pipelines.training.observation import AIM, watch_of
from pipelines.training.precision import prepare_process
from pipelines.training.pulse import Beat, Pulse
from pipelines.training.recipe import TrainRecipe
from pipelines.training.state import TrainState

RUN_FILE: Final = "run.json"
PROGRESS_FILE: Final = "progress.json"
INCIDENTS: Final = "incidents"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainRun:
    """One training, as every process of it gets it."""

    recipe: TrainRecipe
    data: tuple[str, ...]
    out: str
    until_images: int
    run_id: str
    """The logical run: the same for all attempts."""
    tracking_uri: str
    tracking_run: str | None
    """MLflow's id of the run; None while its server is out of reach."""
    weights: tuple[int, ...] = ()
    """Of the datasets, as the stream has them."""
    num_loaders: int = 0
    """Loader processes of each rank; they change nothing but the speed."""
    teachers_at: str | None = None
    """URI of the folder with the weights of teachers; that of the rank's own environment if not given."""

    def observed(self, rank: int, point: Point) -> None:
        """Called on each rank at every point of the curves; here it does nothing."""


def claim_run(recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str, weights: tuple[int, ...] = ()) -> str:
    """The id of the run at `out`, made at its first start; raises Refused where other settings were given before."""
    asked: dict[str, Any] = {
        "recipe": recipe.as_json(),
        "datasets": [d.manifest_sha256 for d in datasets],
        "weights": list(weights),
    }
    if recipe.objective.needs_weights:
        asked["teachers"] = weights_sha256(recipe.objective.needs_weights)
    uri = storage.join(out, RUN_FILE)
    if not storage.exists(uri):
        started = f"{out} {time.time_ns()} {secrets.token_hex(8)}"
        storage.publish(uri, canonical_json({**asked, "run_id": sha256_hex(started.encode())[:16]}))
    there = json.loads(storage.read_bytes(uri))
    _refuse_other_data(out, there["datasets"], datasets)
    difference = first_difference(there, asked)
    if difference is not None:
        name, old, new = difference
        raise Refused(f"{out} holds a run with {name} = {old!r}, not {new!r}: give the same settings or another --out")
    return str(there["run_id"])


def _refuse_other_data(out: str, known: list[str], datasets: tuple[Dataset, ...]) -> None:
    """Raises Refused naming the dataset that is not the one that the run has seen so far."""
    for number, dataset in enumerate(datasets[: len(known)]):
        if dataset.manifest_sha256 != known[number]:
            raise Refused(
                f"{dataset.uri} has the digest {dataset.manifest_sha256[:12]}…, the run at {out} was trained on "
                f"{known[number][:12]}…: photos were added, removed or built otherwise; restore that dataset, or train "
                "at another --out"
            )


def _unheard(_: Beat) -> None:
    """Takes a sign of life that nobody waits for."""


def run_rank(run: TrainRun, world: World, report: Any, send: Callable[[Beat], None] = _unheard) -> str:
    """What one rank does: restore, train, commit. Returns the URI of the last checkpoint.

    `report` gets the newest point at each checkpoint, `send` a sign of life every few seconds.
    """
    with Pulse(world.rank, send) as pulse:
        return _run_rank(run, world, report, pulse)


def _run_rank(run: TrainRun, world: World, report: Any, pulse: Pulse) -> str:
    prepare_process(run.recipe.precision, deterministic=run.recipe.deterministic)
    datasets = tuple(open_dataset(uri) for uri in run.data)
    teachers = load_weights(run.recipe.objective.needs_weights, run.teachers_at)
    state, checkpoint = TrainState(run.recipe, teachers, world.device), latest_checkpoint(run.out)
    if checkpoint is not None:
        _refuse_other_data(run.out, checkpoint.state["datasets"], datasets)
        state.restore(checkpoint)
    _agree(state.images_seen, world)
    committer = Committer(run, state, datasets, world)
    stream = Stream(datasets, run.recipe.stream, run.recipe.seed, run.weights)
    incidents: list[str] = []

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
        commit=commit, tell=incidents.append, alive=pulse.step, num_loaders=run.num_loaders,
    )  # fmt: skip
    return committer.finish()


def _publish_incidents(run: TrainRun, images_seen: int, rank: int, incidents: list[str]) -> None:
    """What a rank's stream had to make good since the last checkpoint, if anything, in a file of its own."""
    if incidents:
        name = f"{images_seen:012d}-{rank:05d}.json"
        storage.publish(storage.join(run.out, INCIDENTS, name), canonical_json(incidents))
        incidents.clear()


def told_incidents(out: str) -> list[str]:
    """All that the stream had to make good in a run: replaced samples, repeated requests."""
    folder = storage.join(out, INCIDENTS)
    names = [name for name, _ in storage.list_files(folder)] if storage.exists(folder) else []
    return [line for name in names for line in json.loads(storage.read_bytes(storage.join(folder, name)))]


def _agree(images_seen: int, world: World) -> None:
    clock = torch.tensor([images_seen], dtype=torch.float64)
    world.average([clock])
    if float(clock) != images_seen:
        raise RuntimeError(f"rank {world.rank} starts at {images_seen} images and others elsewhere: storage is stale")


class Committer:
    """What rank 0 makes durable: points, pictures and checkpoints, and their copies on the tracking server.

    The server is talked to by a thread of its own, so that no step waits for it.
    """

    def __init__(self, run: TrainRun, state: TrainState, datasets: tuple[Dataset, ...], world: World) -> None:
        self._run, self._state, self._datasets, self._world = run, state, datasets, world
        self._watch = watch_of(datasets[0], run.recipe)
        self.best = best_of(run.out, run.recipe)
        self._uploads = ThreadPoolExecutor(max_workers=1)
        self._upload: Future[None] | None = None

    def show(self, point: Point) -> None:
        """Leaves the newest point where the launching process looks for it."""
        if self._world.rank == 0:
            storage.publish(storage.join(self._run.out, PROGRESS_FILE), canonical_json(asdict(point)))

    def commit(self, points: list[Point]) -> None:
        """Scores held-out photos, all ranks together; then rank 0 publishes, the checkpoint last, and others wait."""
        picture = None
        if self._watch is not None:
            observation = self._watch.observe(self._state.shown, self._world)
            picture = observation.picture
            points[-1].values.update(observation.values)
            self.best.take(self._state.images_seen, observation.values)
        if self._world.rank == 0:
            self._publish_all(points, picture)
        self._world.barrier()

    def _publish_all(self, points: list[Point], picture: bytes | None) -> None:
        clock = self._state.images_seen
        if picture is not None:
            self._publish(f"pictures/{clock:012d}.png", picture)
        self._publish(f"metrics/{clock:012d}.json", canonical_json([asdict(point) for point in points]))
        self._state.save(self._run.out, self._facts(), self.best.kept)
        if self._upload is None or self._upload.running() or self._upload.done():
            self._upload = self._uploads.submit(upload, self._run)  # one that waits will tell this commit too

    def finish(self) -> str:
        """Waits for uploads under way; returns the URI of the checkpoint that the training is for."""
        self._uploads.shutdown(wait=True)
        return open_checkpoint(self._run.out).uri if self._world.rank == 0 else ""

    def _publish(self, name: str, data: bytes) -> None:
        storage.publish(storage.join(self._run.out, name), data)

    def _facts(self) -> dict[str, Any]:
        """What a checkpoint says about itself beside its tensors."""
        batch = self._run.recipe.batch_size
        return {
            "run_id": self._run.run_id,
            "tracking_run": self._run.tracking_run,
            "recipe": self._run.recipe.as_json(),
            "network": self._run.recipe.network,
            "size_px": self._run.recipe.stream.size_px,
            "stage": self._state.objective.stage_at(self._state.images_seen).name,
            "datasets": [d.manifest_sha256 for d in self._datasets],
            "code_revision": code_revision(),
            BEST: (self.best.images_seen or None) if self.best.kept else None,
            "ledger": {"num_steps": self._state.images_seen // batch, "batch_size": batch},
        }


@dataclass
class Best:
    """The clock of the checkpoint that was the best on held-out photos, and for how long it may stay so."""

    patience_images: int | None
    images_seen: int = 0
    score: float = -math.inf

    def take(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Looks at the scores of a checkpoint."""
        if values.get(AIM, -math.inf) > self.score:
            self.images_seen, self.score = images_seen, values[AIM]

    def is_old(self, images_seen: int) -> bool:
        """Whether nothing better has come for longer than the recipe waits."""
        return self.patience_images is not None and images_seen - self.images_seen >= self.patience_images

    @property
    def kept(self) -> tuple[int, ...]:
        """Clocks whose checkpoints are not to be dropped."""
        return () if self.patience_images is None else (self.images_seen,)


def best_of(out: str, recipe: TrainRecipe) -> Best:
    """The best of a run so far, by its points alone."""
    best = Best(recipe.patience_images)
    for point in committed_points(out):
        best.take(point["images_seen"], point["values"])
    return best


def is_over(out: str, recipe: TrainRecipe, until_images: int) -> bool:
    """Whether the run has come to this clock, or ended before for want of anything better, and its end is whole."""
    newest = latest_checkpoint(out)
    if newest is None:
        return False
    return newest.images_seen >= until_images or best_of(out, recipe).is_old(newest.images_seen)


def upload(run: TrainRun) -> None:
    """Brings the tracking server up to the last commit; a server out of reach is a warning, never a fault."""
    if run.tracking_run is None:
        return
    from infra.tracking import Tracking

    try:
        tracking = Tracking(run.tracking_uri)
        told = tracking.last_step(run.tracking_run)
        points = [(p["images_seen"], p["unix_ms"], p["values"]) for p in committed_points(run.out, told)]
        tracking.log_points(run.tracking_run, points)
        newest = f"{newest_clock(run.out):012d}.png"
        picture = storage.join(run.out, "pictures", newest)
        if storage.exists(picture):
            tracking.log_file(run.tracking_run, "fills", newest, storage.read_bytes(picture))
    except Exception as fault:  # noqa: BLE001 - whatever the server does, training goes on; the points are on disk
        log.warning("the tracking server at %s did not take the curves: %s", run.tracking_uri, fault)


def committed_points(out: str, after: int = 0) -> list[dict[str, Any]]:
    """The points of a run behind this clock, up to its newest checkpoint, in order."""
    newest, last, points = newest_clock(out), after, []
    if not newest:
        return []
    for name in sorted(name for name, _ in storage.list_files(storage.join(out, "metrics"))):
        if after < int(name.removesuffix(".json")) <= newest:
            found = json.loads(storage.read_bytes(storage.join(out, "metrics", name)))
            points += [point for point in found if point["images_seen"] > last]
            last = points[-1]["images_seen"]
    return points
