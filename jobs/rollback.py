"""`lacuna rollback`: make the previous champion the champion again."""

from dataclasses import dataclass
from typing import Any

import tyro

from infra.settings import get_tracking_uri
from infra.tracking import Tracking
from jobs.cli import run_as_module
from jobs.options import Name
from pipelines.registry.promotion import rollback


@dataclass(frozen=True)
class Arguments:
    """Move the alias `champion` back to the version that had it before."""

    name: tyro.conf.Positional[Name]
    """Name of the registered model."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Move the alias back and report."""
    version = rollback(arguments.name, Tracking(get_tracking_uri()))
    return {"model": version.name, "champion_version": version.number}


if __name__ == "__main__":
    run_as_module("rollback")
