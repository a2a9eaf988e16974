"""A training run, as every process of it gets it, and its identity under `--out`.

`run.json` identifies the run and is written once; other settings at the same place are refused with the differing
field. `attempt.json` names the command that trains there: where two do, which no lock forbids on an object store, the
newer one goes on, and the older one ends at its next commit. Both are sealed.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from infra import storage
from infra.weights import hash_weights
from pipelines.checked_files import seal, unseal
from pipelines.checkpoints import has_checkpoints, refuse_other_checkpoints
from pipelines.manifest import Dataset
from pipelines.records import CorruptDataError, UsageError, find_difference, sha256_hex
from pipelines.run_record import RUN_FILE, RUN_FORMAT, refuse_other_format
from pipelines.training.recipe import TrainRecipe

ATTEMPT_FILE: Final = "attempt.json"


@dataclass(frozen=True, kw_only=True)
class TrainRun:
    """One training, as every process of it gets it."""

    recipe: TrainRecipe
    data: tuple[str, ...]
    """URIs of datasets."""
    out: str
    until_images: int
    run_id: str
    """Id of the logical run: one for all attempts."""
    tracking_uri: str
    """URI of the tracking server; empty for none."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the MLflow run."""
    inputs: tuple[tuple[str, str, str], ...] = ()
    """Name, SHA-256 and URI of each dataset and file of weights that the training is made from."""
    mix: tuple[int, ...] = ()
    """Shares of the datasets, as the stream has them."""
    num_loader_workers: int = 0
    """Loader workers of each rank; they change nothing but the speed."""
    photo_operations: Mapping[str, float] = field(default_factory=dict)
    """Operations of a photo by stage, as `DeviceFlops` has them; without any, curves have no utilization."""
    teachers_at: str | None = None
    """URI of the folder with the weights of teachers; that of the rank's own environment if not given."""
    attempt: str = ""
    """Id of this command, as `begin_attempt` has it; empty where no other can train at `out`."""


def claim_run(recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str, mix: tuple[int, ...] = ()) -> str:
    """Id of the run at `out`, made at its first start.

    Raises UsageError where the run has other settings, CorruptDataError where the record of them cannot be read, is
    missing, or is not that of the checkpoints.
    """
    asked, there = _identify(recipe, datasets, mix), _find_record(out)
    if there is None:
        started, uri = f"{out} {time.time_ns()} {secrets.token_hex(8)}", storage.join(out, RUN_FILE)
        storage.create(uri, seal({**asked, "format": RUN_FORMAT, "run_id": sha256_hex(started.encode())[:16]}))
        there = _read_record(uri)
    _refuse_others(out, there, asked, datasets)
    return str(there["run_id"])


def _find_record(out: str) -> dict[str, Any] | None:
    """Record of the run at `out`, None where there is none."""
    uri = storage.join(out, RUN_FILE)
    if storage.exists(uri):
        return _read_record(uri)
    if has_checkpoints(out):
        raise CorruptDataError(
            f"{out} has checkpoints and no {RUN_FILE}, which names their run: restore it, or give another --out"
        )
    return None


def _read_record(uri: str) -> dict[str, Any]:
    data = storage.read_bytes(uri)
    try:
        found = unseal(data, uri)
    except CorruptDataError:
        raise CorruptDataError(f"{uri} is no record of a run: restore it, or train at another --out") from None
    refuse_other_format(uri, found)
    return found


def refuse_other_run(recipe: TrainRecipe, datasets: tuple[Dataset, ...], out: str, mix: tuple[int, ...] = ()) -> None:
    """Raise UsageError where `out` holds a run of other settings, CorruptDataError as `claim_run`; write nothing."""
    there = _find_record(out)
    if there is not None:
        _refuse_others(out, there, _identify(recipe, datasets, mix), datasets)


def _identify(recipe: TrainRecipe, datasets: tuple[Dataset, ...], mix: tuple[int, ...]) -> dict[str, Any]:
    """Settings by which a run is identified."""
    asked: dict[str, Any] = {
        "recipe": recipe.as_json(),
        "datasets": [d.manifest_sha256 for d in datasets],
        "mix": list(mix),
    }
    if recipe.objective.needs_weights:
        asked["teachers"] = hash_weights(recipe.objective.needs_weights)
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
    """Make this command the one that trains at `out`; returns its id."""
    attempt = secrets.token_hex(8)
    storage.publish(storage.join(out, ATTEMPT_FILE), seal({"attempt": attempt}))
    return attempt


def is_superseded(run: TrainRun) -> bool:
    """Whether another command has begun to train at the run's place since this one has.

    Raises CorruptDataError where that cannot be read.
    """
    if not run.attempt:
        return False
    uri = storage.join(run.out, ATTEMPT_FILE)
    data = storage.read_bytes(uri)
    try:
        return bool(unseal(data, uri)["attempt"] != run.attempt)
    except (CorruptDataError, KeyError):
        raise CorruptDataError(
            f"{uri} does not name the command that trains there: run the same command again"
        ) from None


def refuse_other_data(out: str, known: list[str], datasets: tuple[Dataset, ...]) -> None:
    """Raise UsageError naming the dataset that is not the one that the run has seen so far."""
    for number, dataset in enumerate(datasets[: len(known)]):
        if dataset.manifest_sha256 != known[number]:
            raise UsageError(
                f"{dataset.uri} has the digest {dataset.manifest_sha256[:12]}…, the run at {out} was trained on "
                f"{known[number][:12]}…: photos were added, removed or built otherwise. Restore that dataset, or train "
                "at another --out"
            )
