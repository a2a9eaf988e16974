"""Ray jobs: a command of ours on a cluster that is running, followed to its true end.

In: a command and the cluster's dashboard address. Out: the job's identifier, status and exit code. The identifier is a
digest of the command and of our code, so that the same submission twice is one job.
"""

import asyncio
import hashlib
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from infra.settings import DEFAULTS, PACKAGES, PROJECT_ROOT, code_revision

_ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
_SECONDS_BETWEEN_LOOKS: Final = 0.5


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    job_id: str
    status: str
    exit_code: int | None
    message: str
    last_line: str
    """Of its log: the report, where the verb came so far."""


def submit(address: str, command: Sequence[str], environment: dict[str, str]) -> str:
    """Submits the command, or finds the job that is at it now; returns the job's id.

    After a job of the same command, code and environment has ended, the next is a new attempt: every verb finds what is
    done already. Raises ConnectionError
    where no cluster answers or it does not take our token.
    """
    client = _client(address)
    asked = [*command, code_revision(), *(f"{name}={value}" for name, value in sorted(environment.items()))]
    digest = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]
    attempts = {
        str(job.submission_id): str(job.status)
        for job in client.list_jobs()
        if str(job.submission_id).startswith(f"lacuna-{digest}-")
    }
    living = [name for name, status in attempts.items() if status not in _ENDED]
    if living:
        return living[0]
    job_id = f"lacuna-{digest}-{len(attempts) + 1}"
    with _staged_code() as folder:
        client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=job_id,
            runtime_env={"working_dir": str(folder), "env_vars": DEFAULTS | environment},
            metadata={"lacuna.code": code_revision()},
        )
    return job_id


def follow(address: str, job_id: str) -> JobEnd:
    """Copies the job's log to stderr until it ends."""
    client = _client(address)
    asyncio.run(_copy_log(client, job_id))
    while str((info := client.get_job_info(job_id)).status) not in _ENDED:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    lines = client.get_job_logs(job_id).strip().split("\n")
    return JobEnd(job_id, str(info.status), info.driver_exit_code, str(info.message or ""), lines[-1])


async def _copy_log(client: Any, job_id: str) -> None:
    async for text in client.tail_job_logs(job_id):
        sys.stderr.write(text)
        sys.stderr.flush()


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except Exception as fault:  # noqa: BLE001 - Ray raises several kinds here, all of them mean the same to a user
        raise ConnectionError(
            f"no Ray cluster takes jobs at {address}: {str(fault)[:300]}; give the address of its dashboard, such as "
            "http://127.0.0.1:8265, and its token in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH with RAY_AUTH_MODE=token"
        ) from None


@contextmanager
def _staged_code() -> Iterator[Path]:
    """A folder with our packages and nothing else: no data, no secrets, no virtual environment goes to the cluster."""
    with TemporaryDirectory() as scratch:
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(PROJECT_ROOT / package, Path(scratch) / package, ignore=ignored)
        yield Path(scratch)
