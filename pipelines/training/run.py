"""A training run: what it is, as every process of it gets it, and its identity under `--out`.

`run.json` says who the run is and is written once; other settings at the same place are refused with the differing
field. `attempt.json` says which command trains there: where two do, which no lock forbids on an object store, the newer
one does, and the older one ends at its next commit. Both are sealed.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from infra import storage
from infra.weights import weights_sha256
from pipelines.checkpoints import has_checkpoints, refuse_other_checkpoints
from pipelines.manifest import Dataset, seal, unseal
from pipelines.records import CorruptDataError, UsageError, find_difference, sha256_hex
from pipelines.run_record import RUN_FILE, RUN_FORMAT, refuse_other_format
from pipelines.training.loop import Point
from pipelines.training.recipe import TrainRecipe

ATTEMPT_FILE: Final = "attempt.json"


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
    """Of the server that is told; none where it is empty."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the MLflow run."""
    inputs: tuple[tuple[str, str, str], ...] = ()
    """What the training is made from: name, SHA-256 and URI of each dataset and file of weights."""
    mix: tuple[int, ...] = ()
    """Of the datasets, as the stream has them."""
    num_loader_workers: int = 0
    """Loader processes of each rank; they change nothing but the speed."""
    photo_operations: Mapping[str, float] = field(default_factory=dict)
    """By stage, as `Limit` has them; without any nobody is told what share of its best a device does."""
    teachers_at: str | None = None
    """URI of the folder with the weights of teachers; that of the rank's own environment if not given."""
    attempt: str = ""
    """Which command this is, as `begin_attempt` has it; none where nobody else can train at `out`."""

    def observed(self, rank: int, point: Point) -> None:
        """Called on each rank at every point of the curves; here it does nothing."""


def claim_run(recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str, mix: tuple[int, ...] = ()) -> str:
    """The id of the run at `out`, made at its first start; raises UsageError where other settings were given before,
    CorruptDataError where the record of them cannot be read, is gone, or is not that of the checkpoints."""
    asked, there = _asked(recipe, datasets, mix), _recorded(out)
    if there is None:
        started, uri = f"{out} {time.time_ns()} {secrets.token_hex(8)}", storage.join(out, RUN_FILE)
        storage.create(uri, seal({**asked, "format": RUN_FORMAT, "run_id": sha256_hex(started.encode())[:16]}))
        there = _record(uri)
    _refuse_others(out, there, asked, datasets)
    return str(there["run_id"])


def _recorded(out: str) -> dict[str, Any] | None:
    """Who the run at `out` is, None where there is none."""
    uri = storage.join(out, RUN_FILE)
    if storage.exists(uri):
        return _record(uri)
    if has_checkpoints(out):
        raise CorruptDataError(
            f"{out} has checkpoints and no {RUN_FILE}, which says whose: restore it, or give another --out"
        )
    return None


def _record(uri: str) -> dict[str, Any]:
    data = storage.read_bytes(uri)
    try:
        found = unseal(data, uri)
    except CorruptDataError:
        raise CorruptDataError(f"{uri} is no record of a run: restore it, or train at another --out") from None
    refuse_other_format(uri, found)
    return found


def refuse_other_run(recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str, mix: tuple[int, ...] = ()) -> None:
    """Raises UsageError where `out` holds a run of other settings, CorruptDataError as `claim_run`; makes nothing."""
    there = _recorded(out)
    if there is not None:
        _refuse_others(out, there, _asked(recipe, datasets, mix), datasets)


def _asked(recipe: TrainRecipe, datasets: tuple[Dataset, ...], mix: tuple[int, ...]) -> dict[str, Any]:
    """What makes a run the same."""
    asked: dict[str, Any] = {
        "recipe": recipe.as_json(),
        "datasets": [d.manifest_sha256 for d in datasets],
        "mix": list(mix),
    }
    if recipe.objective.needs_weights:
        asked["teachers"] = weights_sha256(recipe.objective.needs_weights)
    return asked


def _refuse_others(out: str, there: dict[str, Any], asked: dict[str, Any], datasets: tuple[Dataset, ...]) -> None:
    refuse_other_data(out, there["datasets"], datasets)
    difference = find_difference(there, asked)
    if difference is not None:
        name, old, new = difference
        raise UsageError(
            f"{out} holds a run with {name} = {old!r}, not {new!r}: give the same settings or another --out"
        )
    refuse_other_checkpoints(out, there["run_id"], storage.join(out, RUN_FILE))


def begin_attempt(out: str) -> str:
    """Makes this command the one that trains at `out`; returns what it is known by."""
    attempt = secrets.token_hex(8)
    storage.publish(storage.join(out, ATTEMPT_FILE), seal({"attempt": attempt}))
    return attempt


def is_superseded(run: TrainRun) -> bool:
    """Whether another command has begun to train at the run's place since this one has.

    Raises CorruptDataError where that cannot be read any more.
    """
    if not run.attempt:
        return False
    uri = storage.join(run.out, ATTEMPT_FILE)
    data = storage.read_bytes(uri)
    try:
        return bool(unseal(data, uri)["attempt"] != run.attempt)
    except (CorruptDataError, KeyError):
        raise CorruptDataError(f"{uri} does not say which command trains there: run the same command again") from None


def refuse_other_data(out: str, known: list[str], datasets: tuple[Dataset, ...]) -> None:
    """Raises UsageError naming the dataset that is not the one that the run has seen so far."""
    for number, dataset in enumerate(datasets[: len(known)]):
        if dataset.manifest_sha256 != known[number]:
            raise UsageError(
                f"{dataset.uri} has the digest {dataset.manifest_sha256[:12]}…, the run at {out} was trained on "
                f"{known[number][:12]}…: photos were added, removed or built otherwise; restore that dataset, or train "
                "at another --out"
            )
