"""`lacuna rollback`: the champion before the present one is champion again."""

from dataclasses import dataclass
from typing import Any

import tyro

from infra.settings import tracking_uri
from infra.tracking import Tracking
from jobs.cli import run_as_module
from pipelines.registry.promotion import rollback


@dataclass(frozen=True)
class Arguments:
    """Point the alias `champion` back at the version that had it before."""

    name: tyro.conf.Positional[str]
    """Name of the registered model."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Rolls back and reports."""
    version = rollback(arguments.name, Tracking(tracking_uri()))
    return {"model": version.name, "champion_version": version.number}


if __name__ == "__main__":
    run_as_module("rollback")
