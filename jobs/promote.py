"""`lacuna promote`: move the alias `champion` to a version that is better on the same pairs."""

from dataclasses import dataclass
from typing import Any

import tyro

from infra.settings import get_tracking_uri
from infra.tracking import Tracking
from jobs.cli import run_as_module
from jobs.faults import VerbError
from jobs.options import Name
from jobs.progress import say
from pipelines.registry.promotion import CHAMPION, promote


@dataclass(frozen=True)
class Arguments:
    """Make a version the champion if a paired comparison finds it better; otherwise report why not and exit with 1.

    A first version must reach OpenCV's Telea and Navier-Stokes, which `lacuna evaluate` scores on the same pairs.
    """

    name: tyro.conf.Positional[Name]
    """Name of the registered model."""
    version: tyro.conf.Positional[str]
    """Number of the version."""
    force: str | None = None
    """Reason to promote it in spite of the comparison or the baselines. Damaged files, other protocols and non-finite
    scores are refused all the same."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Compare the version with the champion, move the alias and report."""
    tracking = Tracking(get_tracking_uri())
    verdict = promote(arguments.name, arguments.version, tracking, arguments.force)
    champion = tracking.find_alias(arguments.name, CHAMPION)
    report = {
        "promoted": verdict.promoted,
        "champion_version": champion.number if champion else None,
        "verdict": verdict.as_json(),
    }
    if not verdict.promoted:
        advice = "" if verdict.champion else "; train on, or promote it with --force REASON"
        message = f"version {arguments.version} of {arguments.name!r} is not promoted: {verdict.reason}{advice}"
        raise VerbError(message, report)
    say(f"version {arguments.version} of {arguments.name!r} is champion: {verdict.reason}")
    return report


if __name__ == "__main__":
    run_as_module("promote")
