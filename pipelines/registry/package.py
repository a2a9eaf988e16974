"""From a checkpoint and its scores to a registered version that carries both.

The version is an MLflow pyfunc from code: safetensors, JSON, the source of `nets/`, no pickle. Its files hold the
scorecard it was registered with; its tags name the data, recipe, code and weights behind it.
"""

import json
import logging
import math
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from infra.settings import PROJECT_ROOT, read_git_commit
from infra.tracking import NO_MODEL_NAME, Tracking, Version
from infra.tracking_faults import LoginError, TrackingError
from nets.procedures.noise import make_noise_keys
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.guides import sketch_photos
from pipelines.evaluation.model_process import ModelProcess
from pipelines.evaluation.models import Model, describe_training, make_network_model
from pipelines.evaluation.scorecard import Scorecard, refuse_unsound, save_scorecard
from pipelines.keyed_rng import KeyedRng
from pipelines.masks.spec import MaskSpec
from pipelines.records import CorruptDataError, JobError, UsageError, canonical_json, sha256_hex
from pipelines.versions import fetch_version, list_files, make_version_tags

WEIGHTS_TAG: Final = "lacuna.weights_sha256"
SCORES_TAG: Final = "lacuna.scores_sha256"
PASSPORT_TAG: Final = "lacuna.passport"
_CODE: Final = PROJECT_ROOT / "nets"
_MODEL: Final = Path(__file__).with_name("model.py")
_REQUIREMENTS: Final = ("mlflow", "torch", "numpy", "safetensors")

log = logging.getLogger(__name__)


def register(checkpoint: Checkpoint, card: Scorecard, name: str, tracking: Tracking) -> Version:
    """Version of the checkpoint's generator with its scores: an existing one if it was registered before.

    Raises UsageError for an unusable name and where the scores are of other weights, JobError where the stored model
    fails its trial or no version of it can be made.
    """
    # Check name and scores before anything is stored.
    if NO_MODEL_NAME.search(name):
        raise UsageError(f"--name is {name!r}: use letters, digits, '-', '_' or '.', such as faces")
    refuse_unsound(card, f"the scores of {checkpoint.uri}")
    weights_sha256 = checkpoint.file_sha256(checkpoint.generator)
    if card.model.get("weights_sha256") != weights_sha256:
        raise UsageError(
            f"the scores are those of {card.model}, the checkpoint {checkpoint.uri} has weights {weights_sha256}: "
            "evaluate this checkpoint first"
        )
    tags = _make_tags(checkpoint, card)
    if (there := _find_same(name, tags, tracking)) is not None:
        return there
    # Store the model and try it in a fresh process.
    run_id, model = _open_run(checkpoint, tracking), make_network_model(checkpoint)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = _store(folder, checkpoint, card, model, run_id, tracking)
        stored = tracking.download_model(source, folder / "stored")
        tags |= make_version_tags(list_files(stored))
        _try_model(source, stored, model)
    # Make the version, unless another command has registered it meanwhile.
    if (there := _find_same(name, tags, tracking)) is not None:
        return there
    try:
        created = tracking.create_version(name, source, run_id, tags)
    except (LoginError, TrackingError) as fault:
        problem = f"the model is stored as {source}, but a version of {name!r} was not confirmed ({fault})"
        raise type(fault)(f"{problem}: run the same command again, which finds or makes it") from None
    return _keep_first(created, tracking)


def _store(folder: Path, checkpoint: Checkpoint, card: Scorecard, model: Model, run_id: str, tracking: Tracking) -> str:
    """URI of the model as MLflow has stored it, from files that are written to the folder first."""
    return tracking.log_model(
        run_id,
        _MODEL,
        _write_files(folder, checkpoint, card, model.takes),
        packages=[_CODE],
        shapes={"image": (-1, -1, -1, 3), "mask": (-1, -1, -1), "output": (-1, -1, -1, 3)},
        params={"seed": 0, "num_fills": 1},
        config={"procedure": "", "device": "cpu"},
        has_optional_inputs=bool(model.takes),
        requirements=[f"{p}=={package_version(p).partition('+')[0]}" for p in _REQUIREMENTS],
        metadata={
            "weights_sha256": checkpoint.file_sha256(checkpoint.generator),
            "takes": sorted(model.takes),
            "procedure": asdict(checkpoint.procedure),
            "trained": describe_training(checkpoint.state),
        },
        scores={f"score_{metric}": card.mean(metric) for metric in card.metrics},
    )


def _keep_first(created: Version, tracking: Tracking) -> Version:
    """Version created here, or an equal one that another command has created just before; then ours is deleted.

    Version numbers order the two commands, so exactly one version is kept.
    """
    first = _find_same(created.name, created.tags, tracking, before=int(created.number))
    if first is not None and tracking.delete_version(created):
        log.warning("%s was registered by another command meanwhile: deleted its copy %s", first.uri, created.uri)
        return first
    return created


def _find_same(name: str, tags: dict[str, str], tracking: Tracking, before: float = math.inf) -> Version | None:
    """First version before this number with these weights and scores whose files are sound, or None."""
    for version in tracking.list_versions(name):
        is_same = all(version.tags.get(tag) == tags[tag] for tag in (WEIGHTS_TAG, SCORES_TAG))
        if is_same and int(version.number) < before and _is_sound(version, tracking):
            return version
    return None


def _is_sound(version: Version, tracking: Tracking) -> bool:
    """Whether the version's files are those that were registered; logs the reason where not."""
    try:
        with TemporaryDirectory() as scratch:
            fetch_version(version, tracking, Path(scratch))
    except (CorruptDataError, UsageError, OSError) as fault:
        log.warning("%s", fault)
        return False
    return True


def _open_run(checkpoint: Checkpoint, tracking: Tracking) -> str:
    """Id of the MLflow run of the checkpoint's training; the run is created if the server was down at that time."""
    state = checkpoint.state
    recipe: dict[str, Any] = state["recipe"]
    return tracking.open_run(state["run_id"], recipe["name"], recipe, {})


def _write_files(folder: Path, checkpoint: Checkpoint, card: Scorecard, takes: frozenset[str]) -> dict[str, str]:
    """Paths by artifact name of the version's files besides its code, which are written here."""
    description = {
        "network": checkpoint.state["network"],
        "size_px": checkpoint.state["size_px"],
        "procedure": asdict(checkpoint.procedure),
        "takes": sorted(takes),
        "weights_sha256": checkpoint.file_sha256(checkpoint.generator),
    }
    (folder / "generator.safetensors").write_bytes(checkpoint.read(checkpoint.generator))
    (folder / "network.json").write_bytes(canonical_json(description))
    save_scorecard(card, str(folder))
    # List the digests of all files and of the code.
    paths = {f"artifacts/{path.name}": path for path in folder.iterdir()}
    paths |= {f"code/{path.relative_to(PROJECT_ROOT)}": path for path in _CODE.rglob("*.py")} | {_MODEL.name: _MODEL}
    digests = {name: sha256_hex(path.read_bytes()) for name, path in paths.items()}
    (folder / "files.json").write_bytes(canonical_json(digests))
    names = {"weights": "generator.safetensors", "network": "network.json", "files": "files.json"}
    return {k: str(folder / v) for k, v in (names | {"scores": "scores.json", "pairs": "pairs.parquet"}).items()}


def hash_scores(card: Scorecard) -> str:
    """SHA-256 over the passport and every pair's metrics."""
    return sha256_hex(canonical_json([card.model, card.passport, card.rows]))


def _make_tags(checkpoint: Checkpoint, card: Scorecard) -> dict[str, str]:
    state = checkpoint.state
    return {
        WEIGHTS_TAG: checkpoint.file_sha256(checkpoint.generator),
        SCORES_TAG: hash_scores(card),
        "lacuna.datasets": ",".join(state["datasets"]),
        "lacuna.recipe": str(state["recipe"]["name"]),
        "lacuna.recipe_sha256": sha256_hex(canonical_json(state["recipe"])),
        "lacuna.images_seen": str(checkpoint.images_seen),
        "lacuna.code": str(state["code_revision"]),
        "lacuna.commit": read_git_commit() or "not in a checkout",
        "lacuna.run": str(state["run_id"]),
        PASSPORT_TAG: json.dumps(card.passport, sort_keys=True),
    }


def _try_model(model_uri: str, files: Path, model: Model) -> None:
    """Raise JobError unless the stored model fills a photo of an odd size in a fresh process as the checkpoint does.

    A network that takes them gets a sketch, a segmentation map and noise for two fills.
    """
    height, width = 83, 117
    levels = (KeyedRng("trial").words(height * width * 3) % np.uint64(256)).astype(np.uint8)
    image = levels.reshape(1, height, width, 3)
    mask = MaskSpec("rectangle", 1, (height, width), (height, width), "trial").draw()[None]
    planes = {"sketch": sketch_photos(image), "segmentation": torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255}
    guides = {name: plane for name, plane in planes.items() if name in model.takes}
    stored = ModelProcess(model_uri, files)
    for noise in [make_noise_keys(0, number, 1) for number in range(2)] if "noise" in model.takes else [None]:
        if not np.array_equal(stored.fill(image, mask, guides, noise), model.fill(image, mask, guides, noise)):
            raise JobError(f"{model_uri} does not fill as {model.identity['model']} does: nothing was registered")
    stored.close()
