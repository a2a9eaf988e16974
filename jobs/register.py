"""`lacuna register`: a checkpoint and its scores -> a version in the model registry."""

from dataclasses import dataclass
from typing import Any

from infra.settings import get_tracking_uri
from infra.tracking import Tracking, require_login
from jobs.cli import run_as_module
from jobs.options import URI, Name
from pipelines.checkpoints import open_checkpoint
from pipelines.evaluation.scorecard import load_scorecard
from pipelines.registry.package import register


@dataclass(frozen=True)
class Arguments:
    """Register a scored checkpoint as a model version. The same command again finds that version."""

    checkpoint: URI
    """URI of the checkpoint, or of a run for its newest one."""
    scores: URI
    """Folder or URI of the scores: the --out of `lacuna evaluate`."""
    name: Name
    """Name of the registered model."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Register the checkpoint and report."""
    require_login(get_tracking_uri())
    card, checkpoint = load_scorecard(arguments.scores), open_checkpoint(arguments.checkpoint)
    version = register(checkpoint, card, arguments.name, Tracking(get_tracking_uri()))
    return {"model": version.name, "version": version.number, "uri": version.uri, "tags": version.tags}


if __name__ == "__main__":
    run_as_module("register")
