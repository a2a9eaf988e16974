"""From a checkpoint and its scores to a registered version that carries both.

The version is an MLflow pyfunc from code: safetensors, JSON, our `nets/`, no pickle. Its files hold the scorecard it
was registered with, its tags say which data, recipe, code and weights made it.
"""

import json
import logging
import math
import re
from dataclasses import asdict
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from infra.settings import PROJECT_ROOT, git_commit
from infra.tracking import Tracking, Version
from infra.tracking_faults import LoginError, TrackingError
from nets.procedures.noise import seeded_keys
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.model_process import ModelProcess
from pipelines.evaluation.models import Model, make_network_model
from pipelines.evaluation.protocol import sketch_photos
from pipelines.evaluation.scorecard import Scorecard, refuse_unsound, save_scorecard
from pipelines.keyed_rng import KeyedRng
from pipelines.masks.spec import MaskSpec
from pipelines.records import CorruptDataError, JobError, UsageError, canonical_json, sha256_hex
from pipelines.versions import fetch_version, list_files, make_version_tags

WEIGHTS_TAG: Final = "lacuna.weights_sha256"
SCORES_TAG: Final = "lacuna.scores_sha256"
PASSPORT_TAG: Final = "lacuna.passport"
_NO_NAME: Final = re.compile(r"[/:@'\"`\\]|^\.{0,2}$")
"""MLflow takes no such name, or `models:/NAME/NUMBER` and its search do not find it again."""
_CODE: Final = PROJECT_ROOT / "nets"
_MODEL: Final = Path(__file__).with_name("model.py")
_REQUIREMENTS: Final = ("mlflow", "torch", "numpy", "safetensors")

log = logging.getLogger(__name__)


def register(checkpoint: Checkpoint, card: Scorecard, name: str, tracking: Tracking) -> Version:
    """Registers the checkpoint's generator with its scores; finds the version again if that was done before.

    Raises UsageError for an unusable name and where the scores are of other weights, JobError where the stored model
    fails its trial or where no version of it can be made.
    """
    if _NO_NAME.search(name):  # before anything is stored
        raise UsageError(f"--name is {name!r}: give a name of letters, digits, '-', '_' or '.', such as faces")
    refuse_unsound(card, f"the scores of {checkpoint.uri}")
    weights_sha256 = checkpoint.file_sha256(checkpoint.generator)
    if card.model.get("weights_sha256") != weights_sha256:
        raise UsageError(
            f"the scores are those of {card.model}, the checkpoint {checkpoint.uri} has weights {weights_sha256}: "
            "evaluate this checkpoint first"
        )
    tags = _tags(checkpoint, card)
    if (there := _find_same(name, tags, tracking)) is not None:
        return there
    run_id, model = _tracking_run(checkpoint, tracking), make_network_model(checkpoint)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = _store(folder, checkpoint, card, model, run_id, tracking)
        stored = tracking.download_model(source, folder / "stored")
        tags |= make_version_tags(list_files(stored))
        _try_apart(source, stored, model)
    if (there := _find_same(name, tags, tracking)) is not None:  # another command has registered it meanwhile
        return there
    try:
        made = tracking.create_version(name, source, run_id, tags)
    except (LoginError, TrackingError) as fault:
        words = f"the model is stored as {source}, but a version of {name!r} was not confirmed ({fault})"
        raise type(fault)(f"{words}: run the same command again, which finds or makes it") from None
    return _keep_first(made, tracking)


def _store(folder: Path, checkpoint: Checkpoint, card: Scorecard, model: Model, run_id: str, tracking: Tracking) -> str:
    """URI of the model as MLflow has stored it, made of files that are written to the folder first."""
    return tracking.log_model(
        run_id,
        _MODEL,
        _files(folder, checkpoint, card, model.takes),
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
        },
    )


def _keep_first(made: Version, tracking: Tracking) -> Version:
    """The version made, or the same one that another command has made a moment before; then ours is deleted.

    A version's number orders the two commands, so that exactly one is kept.
    """
    first = _find_same(made.name, made.tags, tracking, before=int(made.number))
    if first is not None and tracking.delete_version(made):
        log.warning("%s was registered by another command meanwhile: %s, the same, is deleted", first.uri, made.uri)
        return first
    return made


def _find_same(name: str, tags: dict[str, str], tracking: Tracking, before: float = math.inf) -> Version | None:
    """The first version before this number with these weights and scores whose files are whole."""
    for version in (version for version in tracking.list_versions(name) if int(version.number) < before):
        is_same = all(version.tags.get(tag) == tags[tag] for tag in (WEIGHTS_TAG, SCORES_TAG))
        if is_same and _is_whole(version, tracking):
            return version
    return None


def _is_whole(version: Version, tracking: Tracking) -> bool:
    """Whether the version's files are those that were registered; one that is not is no reason not to register."""
    try:
        with TemporaryDirectory() as scratch:
            fetch_version(version, tracking, Path(scratch))
    except (CorruptDataError, UsageError, OSError) as fault:
        log.warning("%s", fault)
        return False
    return True


def _tracking_run(checkpoint: Checkpoint, tracking: Tracking) -> str:
    """The MLflow run of the training that made the checkpoint, also where its server was away at the time."""
    state = checkpoint.state
    recipe: dict[str, Any] = state["recipe"]
    return tracking.open_run(state["run_id"], recipe["name"], recipe, {})


def _files(folder: Path, checkpoint: Checkpoint, card: Scorecard, takes: frozenset[str]) -> dict[str, str]:
    """Writes what the version carries beside its code; artifact name -> path."""
    described = {
        "network": checkpoint.state["network"],
        "size_px": checkpoint.state["size_px"],
        "procedure": asdict(checkpoint.procedure),
        "takes": sorted(takes),
        "weights_sha256": checkpoint.file_sha256(checkpoint.generator),
    }
    (folder / "generator.safetensors").write_bytes(checkpoint.read(checkpoint.generator))
    (folder / "network.json").write_bytes(canonical_json(described))
    save_scorecard(card, str(folder))
    digests = {f"artifacts/{path.name}": _digest(path) for path in folder.iterdir()}
    digests |= {f"code/{path.relative_to(PROJECT_ROOT)}": _digest(path) for path in _CODE.rglob("*.py")}
    (folder / "files.json").write_bytes(canonical_json(digests | {_MODEL.name: _digest(_MODEL)}))
    names = {"weights": "generator.safetensors", "network": "network.json", "files": "files.json"}
    return {k: str(folder / v) for k, v in (names | {"scores": "scores.json", "pairs": "pairs.parquet"}).items()}


def _digest(path: Path) -> str:
    return sha256_hex(path.read_bytes())


def hash_scores(card: Scorecard) -> str:
    """SHA-256 over the passport and every pair's metrics."""
    return sha256_hex(canonical_json([card.model, card.passport, card.rows]))


def _tags(checkpoint: Checkpoint, card: Scorecard) -> dict[str, str]:
    state = checkpoint.state
    return {
        WEIGHTS_TAG: checkpoint.file_sha256(checkpoint.generator),
        SCORES_TAG: hash_scores(card),
        "lacuna.datasets": ",".join(state["datasets"]),
        "lacuna.recipe": str(state["recipe"]["name"]),
        "lacuna.recipe_sha256": sha256_hex(canonical_json(state["recipe"])),
        "lacuna.images_seen": str(checkpoint.images_seen),
        "lacuna.code": str(state["code_revision"]),
        "lacuna.commit": git_commit() or "not in a checkout",
        "lacuna.run": str(state["run_id"]),
        PASSPORT_TAG: json.dumps(card.passport, sort_keys=True),
    }


def _try_apart(model_uri: str, files: Path, model: Model) -> None:
    """The stored model must load in a fresh process and fill a photo of an odd size as the checkpoint does.

    Where the network takes them it is given a sketch, a segmentation map and noise for two fills.
    """
    height, width = 83, 117
    levels = (KeyedRng("trial").words(height * width * 3) % np.uint64(256)).astype(np.uint8)
    image = levels.reshape(1, height, width, 3)
    mask = MaskSpec("rectangle", 1, (height, width), (height, width), "trial").draw()[None]
    planes = {"sketch": sketch_photos(image), "segmentation": torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255}
    beside = {name: plane for name, plane in planes.items() if name in model.takes}
    stored = ModelProcess(model_uri, files)
    for noise in [seeded_keys(0, number, 1) for number in range(2)] if "noise" in model.takes else [None]:
        if not np.array_equal(stored.fill(image, mask, beside, noise), model.fill(image, mask, beside, noise)):
            raise JobError(f"{model_uri} does not fill as {model.identity['model']} does: nothing was registered")
    stored.close()
