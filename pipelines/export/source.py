"""Source of an export: the network of a checkpoint or of a registered version, and the facts for its file.

In: a name as on the command line. Out: the network with its weights, the side of its training photos, and facts. None
of them holds a path of this machine, as the file is passed on with them.
"""

import json
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from safetensors.torch import load
from torch import Tensor, nn

from infra.settings import PROJECT_ROOT, compute_code_revision, get_tracking_uri
from nets import build_network
from pipelines.checkpoints import open_checkpoint
from pipelines.evaluation.scorecard import BASELINES
from pipelines.records import UsageError, canonical_json, sha256_hex
from pipelines.versions import fetch_version, list_files

_CODE: Final = "code/nets/"


@dataclass(frozen=True)
class Source:
    """Network to export."""

    network: nn.Module
    size_px: int
    facts: dict[str, str]
    """Facts for the file: `model`, `recipe`, `weights_sha256`, `network`, `size_px`, `lacuna`."""


def open_source(name: str) -> Source:
    """Network and facts of a checkpoint, a run or `models:/...`.

    Raises UsageError where there is none, and where a registered version has other code than this installation, which
    would build another network.
    """
    if name in BASELINES:
        raise UsageError(
            f"{name} is a method of OpenCV, not a network: give a checkpoint, a run or models:/NAME@champion"
        )
    return _open_version(name) if name.startswith("models:/") else _open_trained(name)


def _open_trained(uri: str) -> Source:
    checkpoint = open_checkpoint(uri)
    state = checkpoint.state
    model = f"run {state['run_id']} after {checkpoint.images_seen} images"
    digest = checkpoint.file_sha256(checkpoint.generator)
    return _make_source(model, str(state["recipe"]["name"]), digest, state, checkpoint.tensors(checkpoint.generator))


def _open_version(uri: str) -> Source:
    from infra.tracking import Tracking

    tracking = Tracking(get_tracking_uri())
    version = tracking.find_version(uri)
    with TemporaryDirectory(prefix="lacuna-version-") as scratch:
        folder = fetch_version(version, tracking, Path(scratch))
        _refuse_other_code(version.uri, folder, version.tags.get("lacuna.commit", "unknown"))
        weights = (folder / "artifacts" / "generator.safetensors").read_bytes()
        description = json.loads((folder / "artifacts" / "network.json").read_bytes())
    recipe = version.tags.get("lacuna.recipe", "unknown")
    return _make_source(version.uri, recipe, sha256_hex(weights), description, load(weights))


def _refuse_other_code(uri: str, folder: Path, commit: str) -> None:
    theirs = {name: digest for name, digest in list_files(folder).items() if name.startswith(_CODE)}
    ours = {
        f"code/{path.relative_to(PROJECT_ROOT).as_posix()}": sha256_hex(path.read_bytes())
        for path in (PROJECT_ROOT / "nets").rglob("*.py")
    }
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise UsageError(
                f"{uri} was registered with another {name.removeprefix('code/')} than that of this installation. "
                f"Export with the code of its commit, {commit}, or register its checkpoint again"
            )


def _make_source(
    model: str, recipe: str, digest: str, description: dict[str, Any], tensors: dict[str, Tensor]
) -> Source:
    network = build_network(description["network"])
    network.load_state_dict(tensors)
    size_px = int(description["size_px"])
    facts = {
        "model": model,
        "recipe": recipe,
        "weights_sha256": digest,
        "network": canonical_json(description["network"]).decode(),
        "size_px": str(size_px),
        "lacuna": f"{package_version('lacuna')} {compute_code_revision()}",
    }
    return Source(network, size_px, facts)
