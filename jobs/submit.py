"""`lacuna submit`: any verb as a job on a running Ray cluster, followed to its end, with its own exit code."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import tyro

from infra.addresses import refuse_unsafe_address
from infra.credentials import HOW_TO_LOG_IN, has_credentials, hide_credentials, names_secret
from infra.jobs import Job, JobEnd, ask_status, connect, find_job, follow, start
from jobs.check_cluster import check_cluster, parse_check
from jobs.cli import VERBS, run_as_module, get_module_name
from jobs.faults import VerbError
from jobs.progress import say
from pipelines.records import UsageError

_CHECK: Final = "--check-cluster"
_PATHS: Final = (
    *("--root", "--out", "--data", "--checkpoint", "--scores"),
    *("--image", "--mask", "--sketch", "--segmentation"),
)
_MANY_PATHS: Final = "--data"
_TRACKED: Final = ("train", "register", "promote", "rollback")
_TRAVELING: Final = ("MLFLOW_TRACKING_URI", "LACUNA_WEIGHTS")
_BAD_USAGE, _INTERRUPTED, _TERMINATED = 2, 130, 143
_AGAIN: Final = "the same command makes another attempt, which goes on from what is done"
_CORRECT: Final = "correct the command: it would be refused again"
_LINES_AFTER_REPORT: Final = 20
"""What libraries may say after the verb's last word."""


@dataclass(frozen=True)
class Arguments:
    """Run `lacuna VERB ...` as a job on a Ray cluster: `lacuna submit --cluster ADDRESS train RECIPE --data ...`.

    Options of submit stand before the verb; what stands behind it is the verb's.
    """

    command: tyro.conf.Positional[tuple[str, ...]]
    """The verb and its options."""
    cluster: str
    """Address of the cluster's dashboard: http://127.0.0.1:8265 through a tunnel, or https://HOST."""
    insecure: bool = False
    """Send code and token in clear http to another machine too, where others may read them."""
    check_cluster: str = ""
    """Check this file for `ray up`, such as ray_cluster.yaml, for mistakes; submit nothing."""


def parse(words: list[str]) -> Arguments:
    """Options up to the verb are those of submit, all behind it the verb's; `--cluster ADDRESS` is found anywhere."""
    if words and words[0].partition("=")[0] == _CHECK:
        file = words[0].partition("=")[2]
        return Arguments((), "", check_cluster=parse_check([file] * bool(file) + words[1:]))
    rest, cluster = _take_cluster(words)
    insecure = False
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option.partition("=")[0] == _CHECK:
            raise UsageError(f"{_CHECK} FILE stands alone: it asks no cluster and runs no verb")
        if option != "--insecure":
            raise UsageError(f"unknown option {option} before the verb: there are --cluster ADDRESS and --insecure")
        insecure = True
    if not rest or rest[0] not in VERBS or rest[0] == "submit":
        given = f"{rest[0]!r} is no verb to run" if rest else "no verb to run"
        raise UsageError(f"{given}: give one of {', '.join(v for v in VERBS if v != 'submit')} and its options")
    return Arguments(tuple(rest), cluster, insecure)


def _take_cluster(words: Sequence[str]) -> tuple[list[str], str]:
    """The words without `--cluster ADDRESS`, and the address."""
    rest, found, waiting = list[str](), list[str](), iter(words)
    for word in waiting:
        option, equals, value = word.partition("=")
        if option == "--cluster":
            found.append(value if equals else next(waiting, ""))
        else:
            rest.append(word)
    if not found or not found[0] or found[0].startswith("-"):
        raise UsageError("--cluster ADDRESS is missing: the address of the cluster's dashboard")
    if len(found) > 1:
        raise UsageError(f"--cluster is given {len(found)} times: give it once")
    return rest, found[0]


def run(arguments: Arguments) -> dict[str, Any]:
    """Submits, follows and reports; a job that did not succeed is a fault with the job's own exit code."""
    if arguments.check_cluster:
        return check_cluster(arguments.check_cluster)
    refuse_unsafe_address(arguments.cluster, arguments.insecure)
    if arguments.insecure and arguments.cluster.startswith("http:"):
        say(f"warning: code and token go to {arguments.cluster} in clear http, as --insecure says")
    verb, *options = arguments.command
    environment = {name: os.environ[name] for name in _TRAVELING if os.environ.get(name)}
    _leave_local_weights(environment)
    _refuse_relative(options)
    _refuse_credentials(options, environment)
    if verb in _TRACKED:
        _require_tracking(verb, environment.get("MLFLOW_TRACKING_URI", ""))
    end = _run_job(arguments.cluster, ("python", "-m", get_module_name(verb), *options), environment)
    report = _facts(end.job_id, end.status, end.exit_code) | {"report": _report(end)}
    if end.status != "SUCCEEDED":
        words = (report["report"] or {}).get("error") or end.message[-300:]
        code = _exit_code(end)
        how = _CORRECT if code == _BAD_USAGE else _AGAIN
        raise VerbError(f"job {end.job_id} ended as {end.status}: {words} ({how})", report, code)
    say(f"job {end.job_id} ended as {end.status}")
    return report


def _leave_local_weights(environment: dict[str, str]) -> None:
    """Takes LACUNA_WEIGHTS out where it is a folder of this machine: nodes have weights of their own, or a store's."""
    weights = environment.get("LACUNA_WEIGHTS", "")
    if weights and ("://" not in weights or weights.startswith("file:")):
        del environment["LACUNA_WEIGHTS"]
        say(f"LACUNA_WEIGHTS={weights} stays here: nodes use their own; name a place such as s3://bucket/weights")


def _require_tracking(verb: str, uri: str) -> None:
    """A database in the job's own folder goes with it, and all that a training has told."""
    if not uri:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is not set: {verb} on a cluster needs a tracking server that outlives the job"
        )
    if re.match(r"sqlite(\+\w+)?:(///)?(?!/)", uri):
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {uri}: the job's own folder goes with it. Give http://HOST:PORT or "
            "https://HOST of a server, or sqlite:////FILE from the root"
        )


def _run_job(address: str, command: tuple[str, ...], environment: dict[str, str]) -> JobEnd:
    """The end of the job that does the command; every other end of ours tells what is known of the job."""
    cluster, job = None, None
    try:
        cluster = connect(address)
        job = find_job(cluster, command, environment)
        say(f"job {job.id} at {address}{' runs already: following it' if job.is_there else ''}")
        if not job.is_there:
            start(cluster, job)
        return follow(cluster, job.id, say)
    except KeyboardInterrupt as interrupt:
        exit_code = _TERMINATED if "SIGTERM" in interrupt.args else _INTERRUPTED
        if cluster is None or job is None:
            raise VerbError(f"interrupted before a job was sent to {address}", {}, exit_code) from None
        status = ask_status(cluster, job.id)
        raise _left(f"interrupted: job {job.id} is {status}", address, job, status, exit_code) from None
    except FileNotFoundError as fault:
        if job is None:
            raise
        words = f"{address} knows no job {job.id} any more ({fault}): its head was started anew, or the job deleted"
        raise VerbError(f"{words}; the same command begins it again", _facts(job.id, "UNKNOWN")) from None
    except ConnectionError as fault:
        if job is None:
            raise
        raise _left(f"{fault}; job {job.id} may run on", address, job, "UNKNOWN", 1) from None


def _left(words: str, address: str, job: Job, status: str, exit_code: int) -> VerbError:
    """That this command ends while the job may not have."""
    how = f"the same command follows it again; `ray job stop {job.id} --address {address}` stops it"
    return VerbError(f"{words} at {address}: {how}", _facts(job.id, status), exit_code)


def _facts(job_id: str, status: str, exit_code: int | None = None) -> dict[str, Any]:
    return {"job_id": job_id, "status": status, "exit_code": exit_code, "report": None}


def _exit_code(end: JobEnd) -> int:
    """The job's own; 128 and the signal's number where one ended it, as shells have it."""
    code = end.exit_code or 1
    return 128 - code if code < 0 else code


def _refuse_relative(options: Sequence[str]) -> None:
    """A job stands in a folder of its own, which goes with it: what it reads and writes must be named from the root."""
    option = ""
    for word in options:
        path = word
        if word.startswith("--"):
            option, _, path = word.partition("=")
        if option in _PATHS and path and not path.startswith("/") and "://" not in path:
            raise UsageError(f"{option} {path} is relative: on a cluster give a URI or a path from the root")
        if path and option != _MANY_PATHS:
            option = ""


def _refuse_credentials(options: Sequence[str], environment: dict[str, str]) -> None:
    """All who may list the cluster's jobs read their words and variables."""
    for before, word in pairwise(("", *options)):
        if has_credentials(word) or _names_secret(before, word):
            raise UsageError(
                f"{_named(before, word)} holds a password or key, and a cluster shows the words of its jobs. Give it "
                "without: the nodes need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a file that LACUNA_SECRETS "
                "names there"
            )
    for name, value in environment.items():
        if has_credentials(value):
            raise UsageError(
                f"{name} holds a password, and `ray job list` shows it. Give the URI without: {HOW_TO_LOG_IN}"
            )


def _named(before: str, word: str) -> str:
    """Which word it is, without what it holds."""
    shown = "a word" if _names_secret(before, word) else hide_credentials(word)
    return f"{before} {shown}" if before.startswith("-") else shown


def _names_secret(before: str, word: str) -> bool:
    return names_secret(word) or names_secret(f"{before}={word}")


def _report(end: JobEnd) -> dict[str, Any] | None:
    """The verb's own report: of the last lines of its log the last that is one."""
    for line in reversed(end.log.strip().split("\n")[-_LINES_AFTER_REPORT:]):
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and "verb" in report:
            return report
    return None


if __name__ == "__main__":
    run_as_module("submit")
