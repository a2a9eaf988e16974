"""`lacuna submit`: any verb as a job on a running Ray cluster, followed to its end, with its own exit code."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import tyro

from infra.jobs import JobEnd, follow, submit
from jobs.check_cluster import check_cluster, parse_check
from jobs.cli import VERBS, as_module, module_of
from jobs.faults import NotDone
from jobs.progress import say
from pipelines.records import Refused

_PATHS: Final = ("--root", "--out", "--data", "--checkpoint", "--scores", "--image", "--mask")
_TRACKED: Final = ("train", "register", "promote", "rollback")


@dataclass(frozen=True)
class Arguments:
    """Run `lacuna VERB ...` as a job on a Ray cluster: `lacuna submit --cluster ADDRESS train RECIPE --data ...`."""

    command: tyro.conf.Positional[tuple[str, ...]]
    """The verb and its options."""
    cluster: str
    """Address of the cluster's dashboard, such as http://127.0.0.1:8265."""
    check_cluster: str = ""
    """Check this file for `ray up`, such as ray_cluster.yaml, for mistakes; submit nothing."""


def parse(words: list[str]) -> Arguments:
    """Takes `--cluster ADDRESS` out of the words, wherever it stands; all others belong to the verb."""
    if words[:1] == ["--check-cluster"]:
        return Arguments((), "", check_cluster=parse_check(words[1:]))
    if "--cluster" not in words[:-1]:
        raise Refused("--cluster ADDRESS is missing: the address of the cluster's dashboard")
    at = words.index("--cluster")
    command = (*words[:at], *words[at + 2 :])
    if not command or command[0] not in VERBS or command[0] == "submit":
        raise Refused(f"no verb to run: give one of {', '.join(v for v in VERBS if v != 'submit')} and its options")
    return Arguments(command, words[at + 1])


def run(arguments: Arguments) -> dict[str, Any]:
    """Submits, follows and reports; a job that did not succeed is a fault with the job's own exit code."""
    if arguments.check_cluster:
        return check_cluster(arguments.check_cluster)
    verb, *options = arguments.command
    environment = {n: os.environ[n] for n in ("MLFLOW_TRACKING_URI", "LACUNA_WEIGHTS") if os.environ.get(n)}
    _leave_local_weights(environment)
    _refuse_relative(options)
    if verb in _TRACKED and "MLFLOW_TRACKING_URI" not in environment:
        raise Refused(
            f"MLFLOW_TRACKING_URI is not set: {verb} on a cluster needs a tracking server that outlives the job"
        )
    job_id = submit(arguments.cluster, ("python", "-m", module_of(verb), *options), environment)
    say(f"job {job_id} at {arguments.cluster}")
    end = follow(arguments.cluster, job_id)
    report: dict[str, Any] = {
        "job_id": end.job_id,
        "status": end.status,
        "exit_code": end.exit_code,
        "report": _report(end),
    }
    if end.status != "SUCCEEDED":
        words = (report["report"] or {}).get("error") or end.message[-300:]
        raise NotDone(f"job {job_id} ended as {end.status}: {words}", report, end.exit_code or 1)
    return report


def _leave_local_weights(environment: dict[str, str]) -> None:
    """Takes LACUNA_WEIGHTS out where it is a folder of this machine: nodes have weights of their own, or a store's."""
    weights = environment.get("LACUNA_WEIGHTS", "")
    if weights and ("://" not in weights or weights.startswith("file:")):
        del environment["LACUNA_WEIGHTS"]
        say(f"LACUNA_WEIGHTS={weights} stays here: nodes use their own; name a place such as s3://bucket/weights")


def _refuse_relative(options: Sequence[str]) -> None:
    """A job stands in a folder of its own, which goes with it: what it reads and writes must be named from the root."""
    for option, value in pairwise(options):
        if option in _PATHS and not value.startswith("/") and "://" not in value:
            raise Refused(f"{option} {value} is relative: on a cluster give a URI or a path from the root")


def _report(end: JobEnd) -> dict[str, Any] | None:
    """The verb's own report, the last line of its log."""
    try:
        report = json.loads(end.last_line)
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


if __name__ == "__main__":
    as_module("submit")
