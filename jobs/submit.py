"""`lacuna submit`: run any verb as a job on a running Ray cluster, follow it, and end with its exit code."""

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
from infra.uris import refuse_invalid_uri
from jobs.check_cluster import check_cluster, parse_check
from jobs.cli import VERBS, get_module_name, parse_verb, run_as_module
from jobs.faults import VerbError
from jobs.options import list_files
from jobs.progress import say
from pipelines.records import UsageError

_CHECK: Final = "--check-cluster"
_TRACKED: Final = ("train", "register", "promote", "rollback")
_PASSED_VARIABLES: Final = ("MLFLOW_TRACKING_URI", "LACUNA_WEIGHTS")
_BAD_USAGE, _INTERRUPTED, _TERMINATED = 2, 130, 143
_AGAIN: Final = "run the same command again for another attempt, which continues the work"
_CORRECT: Final = "correct the command before you run it again"
_LINES_AFTER_REPORT: Final = 20
"""Lines that libraries may print after the verb's report."""


@dataclass(frozen=True)
class Arguments:
    """Run `lacuna VERB ...` as a job on a Ray cluster: `lacuna submit --cluster ADDRESS train RECIPE --data ...`.

    Options of submit come before the verb, those of the verb after it.
    """

    command: tyro.conf.Positional[tuple[str, ...]]
    """The verb and its options."""
    cluster: str
    """Address of the cluster's dashboard: http://127.0.0.1:8265 through a tunnel, or https://HOST."""
    insecure: bool = False
    """Allow plain http to another machine, though others can then read code and token on the way."""
    check_cluster: str = ""
    """Instead of a verb: list the mistakes in this file for `ray up`, such as ray_cluster.yaml."""


def parse(words: list[str]) -> Arguments:
    """Arguments from options of submit before the verb and all words from it on; `--cluster` may stand anywhere."""
    if words and words[0].partition("=")[0] == _CHECK:
        file = words[0].partition("=")[2]
        return Arguments((), "", check_cluster=parse_check([file] * bool(file) + words[1:]))
    rest, cluster = _take_cluster(words)
    insecure = False
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option.partition("=")[0] == _CHECK:
            raise UsageError(f"{_CHECK} is given with other options: give `lacuna submit {_CHECK} FILE` alone")
        if option != "--insecure":
            raise UsageError(f"unknown option {option} before the verb: use --cluster ADDRESS and --insecure")
        insecure = True
    if not rest or rest[0] not in VERBS or rest[0] == "submit":
        problem = f"cannot submit {rest[0]!r}" if rest else "no verb given"
        raise UsageError(f"{problem}: use one of {', '.join(v for v in VERBS if v != 'submit')}")
    return Arguments(tuple(rest), cluster, insecure)


def _take_cluster(words: Sequence[str]) -> tuple[list[str], str]:
    """Words without `--cluster ADDRESS`, and the address."""
    rest, found, waiting = list[str](), list[str](), iter(words)
    for word in waiting:
        option, equals, value = word.partition("=")
        if option == "--cluster":
            found.append(value if equals else next(waiting, ""))
        else:
            rest.append(word)
    if not found or not found[0] or found[0].startswith("-"):
        raise UsageError("--cluster ADDRESS is missing: give the address of the cluster's dashboard")
    if len(found) > 1:
        raise UsageError(f"--cluster is given {len(found)} times: give it once")
    return rest, found[0]


def run(arguments: Arguments) -> dict[str, Any]:
    """Submit the job, follow it and report; raise VerbError with its exit code unless it succeeds."""
    # Check everything before the cluster is asked.
    if arguments.check_cluster:
        return check_cluster(arguments.check_cluster)
    refuse_unsafe_address(arguments.cluster, arguments.insecure)
    if arguments.insecure and arguments.cluster.startswith("http:"):
        say(f"warning: code and token go to {arguments.cluster} in plain http, as --insecure allows")
    verb, *options = arguments.command
    environment = {name: os.environ[name] for name in _PASSED_VARIABLES if os.environ.get(name)}
    _drop_local_weights(environment)
    _refuse_credentials(options, environment)
    _check_options(verb, options)
    if verb in _TRACKED:
        _require_tracking(verb, environment.get("MLFLOW_TRACKING_URI", ""))
    # Run the job, and report its end.
    end = _run_job(arguments.cluster, ("python", "-m", get_module_name(verb), *options), environment)
    report = _build_report(end.job_id, end.status, end.exit_code) | {"report": _find_report(end)}
    if end.status != "SUCCEEDED":
        words = (report["report"] or {}).get("error") or end.message[-300:]
        code = _choose_exit_code(end)
        advice = _CORRECT if code == _BAD_USAGE else _AGAIN
        raise VerbError(f"job {end.job_id} ended as {end.status}: {words} ({advice})", report, code)
    say(f"job {end.job_id} ended as {end.status}")
    return report


def _drop_local_weights(environment: dict[str, str]) -> None:
    """Drop LACUNA_WEIGHTS if it is a folder of this machine: nodes have their own weights, or read a store's."""
    weights = environment.get("LACUNA_WEIGHTS", "")
    if weights and ("://" not in weights or weights.startswith("file:")):
        del environment["LACUNA_WEIGHTS"]
        say(f"note: nodes do not get LACUNA_WEIGHTS={weights}, a local folder: give a URI such as s3://bucket/weights")


def _require_tracking(verb: str, uri: str) -> None:
    """Raise UsageError for a database in the job's own folder, which is deleted with the job."""
    if not uri:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is not set: {verb} on a cluster needs a tracking server; give http://HOST:PORT"
        )
    if re.match(r"sqlite(\+\w+)?:(///)?(?!/)", uri):
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {uri}, in the job's own folder, which is deleted with the job. Give "
            "http://HOST:PORT or https://HOST of a server, or sqlite:////FILE from the root"
        )


def _run_job(address: str, command: tuple[str, ...], environment: dict[str, str]) -> JobEnd:
    """End of the job that runs the command; raises VerbError with the job's status if this command ends before."""
    cluster, job = None, None
    try:
        cluster = connect(address)
        job = find_job(cluster, command, environment)
        say(f"job {job.id} at {address}{' is running already: following it' if job.is_there else ''}")
        if not job.is_there:
            start(cluster, job)
        return follow(cluster, job.id, say)
    except KeyboardInterrupt as interrupt:
        exit_code = _TERMINATED if "SIGTERM" in interrupt.args else _INTERRUPTED
        if cluster is None or job is None:
            raise VerbError(f"interrupted before a job was sent to {address}", {}, exit_code) from None
        status = ask_status(cluster, job.id)
        raise _build_departure(f"interrupted: job {job.id} is {status}", address, job, status, exit_code) from None
    except FileNotFoundError as fault:
        if job is None:
            raise
        words = f"{address} no longer knows job {job.id} ({fault}): its head was restarted, or the job deleted"
        raise VerbError(f"{words}; the same command starts it again", _build_report(job.id, "UNKNOWN")) from None
    except ConnectionError as fault:
        if job is None:
            raise
        raise _build_departure(f"{fault}; job {job.id} may still run", address, job, "UNKNOWN", 1) from None


def _build_departure(words: str, address: str, job: Job, status: str, exit_code: int) -> VerbError:
    """Error that ends this command while the job may still run."""
    advice = f"the same command follows it again; `ray job stop {job.id} --address {address}` stops it"
    return VerbError(f"{words} at {address}: {advice}", _build_report(job.id, status), exit_code)


def _build_report(job_id: str, status: str, exit_code: int | None = None) -> dict[str, Any]:
    return {"job_id": job_id, "status": status, "exit_code": exit_code, "report": None}


def _choose_exit_code(end: JobEnd) -> int:
    """Exit code of the job; 128 plus the number of the signal that ended it, as shells do."""
    code = end.exit_code or 1
    return 128 - code if code < 0 else code


def _check_options(verb: str, options: list[str]) -> None:
    """Raise UsageError for options that the verb itself refuses, and for relative paths.

    A job works in its own folder, which is deleted with it.
    """
    module, arguments = parse_verb(verb, options)
    if hasattr(module, "check"):
        module.check(arguments)
    for option, path in list_files(arguments):
        refuse_invalid_uri(path)
        if not path.startswith("/") and "://" not in path:
            raise UsageError(f"{option} {path} is relative: on a cluster give a URI or an absolute path")


def _refuse_credentials(options: Sequence[str], environment: dict[str, str]) -> None:
    """Raise UsageError for credentials: everyone who can list the cluster's jobs reads their words and variables."""
    for before, word in pairwise(("", *options)):
        if has_credentials(word) or _names_secret(before, word):
            raise UsageError(
                f"{_mask_word(before, word)} holds a password or key, and a cluster shows the words of its jobs. "
                "Remove it, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on the nodes, or a file in "
                "LACUNA_SECRETS there"
            )
    for name, value in environment.items():
        if has_credentials(value):
            raise UsageError(
                f"{name} holds a password, and `ray job list` shows it. Remove it from the URI: {HOW_TO_LOG_IN}"
            )


def _mask_word(before: str, word: str) -> str:
    """Word with its option, without the secret."""
    shown = "a word" if _names_secret(before, word) else hide_credentials(word)
    return f"{before} {shown}" if before.startswith("-") else shown


def _names_secret(before: str, word: str) -> bool:
    return names_secret(word) or names_secret(f"{before}={word}")


def _find_report(end: JobEnd) -> dict[str, Any] | None:
    """Report of the verb: the last one among the last lines of its log; None if there is none."""
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
