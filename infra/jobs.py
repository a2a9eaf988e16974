"""Ray jobs: a command of ours on a running cluster, followed to its end.

In: a command and the address of the cluster's dashboard. Out: the job's identifier, status and exit code. The
identifier is a digest of the command and of our code, so that the same submission twice is one job.
"""

import asyncio
import hashlib
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from infra.settings import DEFAULTS, PROJECT_ROOT, compute_code_revision, compute_revision, list_source_files
from infra.uris import InvalidURIError

if TYPE_CHECKING:
    from infra.dashboard import Dashboard

SECONDS_AWAY: Final = 300.0
"""Time without an answer after which a cluster counts as lost."""
_ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
_SECONDS_BETWEEN_TRIES: Final = 0.5
_SECONDS_OF_SILENCE: Final = 20.0
"""Time without a line after which the job's status is read: a stream can break without an error."""
_MAX_SECONDS_BETWEEN_TRIES: Final = 10.0
_TRIES_FOR_LOG: Final = 6
_SECONDS_AT_THE_END: Final = 5.0
_ADVICE: Final = re.compile(r"\.+ (?:Ensure|Note|Create|To generate|Please)\b")
"""Start of the advice in Ray's messages about tokens, which ours replaces."""
_MAX_FILE_BYTES: Final = 1 << 20
_MAX_BYTES: Final = 8 << 20
"""Limit of sent code: ours is a megabyte."""


@dataclass(frozen=True)
class Job:
    """A command as a job of a cluster."""

    id: str
    command: tuple[str, ...]
    environment: dict[str, str]
    is_there: bool
    """Whether the cluster runs it already."""


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    job_id: str
    status: str
    exit_code: int | None
    message: str
    log: str
    """Whole log; empty if the cluster no longer has it."""


def connect(address: str) -> "Dashboard":
    """Client of the cluster's dashboard; raises ConnectionError if none answers or it refuses our token."""
    from infra.dashboard import Dashboard

    try:
        return Dashboard(address)
    except Exception as fault:  # noqa: BLE001 - Ray raises several kinds here that mean the same to a user
        reason = _ADVICE.split(" ".join(str(fault).split()))[0].rstrip(".")[:300]
        raise ConnectionError(
            f"no Ray cluster accepts jobs at {address}: {reason}. Give the address of its dashboard, such as "
            "http://127.0.0.1:8265. Give its token in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH with RAY_AUTH_MODE=token"
        ) from None


def find_job(cluster: "Dashboard", command: Sequence[str], environment: dict[str, str]) -> Job:
    """Job that runs this command with this code and environment now, or else the next attempt at it.

    After a job has ended the next one is a new attempt: every verb finds the work that is done already.
    """
    asked = [*command, compute_code_revision(), *(f"{name}={value}" for name, value in sorted(environment.items()))]
    digest = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]
    prefix = f"lacuna-{digest}-"
    attempts = {
        int(str(job.submission_id).removeprefix(prefix)): str(job.status)
        for job in cluster.list_jobs()
        if re.fullmatch(rf"{prefix}\d+", str(job.submission_id))
    }
    living = [number for number, status in attempts.items() if status not in _ENDED]
    number = max(living) if living else max(attempts, default=0) + 1
    return Job(f"{prefix}{number}", tuple(command), environment, bool(living))


def start(cluster: "Dashboard", job: Job) -> None:
    """Send code and command; if another process has just sent the same job, use that one."""
    with stage_code() as folder:
        try:
            cluster.submit_job(
                entrypoint=shlex.join(job.command),
                submission_id=job.id,
                runtime_env={"working_dir": str(folder), "env_vars": DEFAULTS | job.environment},
                metadata={"lacuna.code": compute_code_revision()},
            )
        except ConnectionError as fault:
            if _is_known(cluster, job.id):
                return
            raise ConnectionError(f"{cluster.get_address()} did not accept job {job.id}: {fault}") from None


def _is_known(cluster: "Dashboard", job_id: str) -> bool:
    with suppress(OSError):
        cluster.get_job_info(job_id)
        return True
    return False


def ask_status(cluster: "Dashboard", job_id: str) -> str:
    """Status of the job now; UNKNOWN if no answer comes soon, as a user wants to leave."""
    cluster.seconds_to_answer = _SECONDS_AT_THE_END
    with suppress(OSError):
        return str(cluster.get_job_info(job_id).status)
    return "UNKNOWN"


def follow(
    cluster: "Dashboard", job_id: str, warn: Callable[[str], None], seconds_away: float = SECONDS_AWAY
) -> JobEnd:
    """Copy the job's log to stderr until the job ends, each character once, however often the stream breaks.

    Raises ConnectionError after `seconds_away` seconds without an answer, FileNotFoundError for an unknown job.
    """
    return asyncio.run(_Follower(cluster, job_id, warn, seconds_away).follow())


class _Follower:
    """Follows one job, and counts the characters of its log that are shown."""

    def __init__(self, cluster: "Dashboard", job_id: str, warn: Callable[[str], None], seconds_away: float) -> None:
        self._cluster, self._job_id, self._warn, self._seconds_away = cluster, job_id, warn, seconds_away
        self._num_shown = 0
        self._away_since: float | None = None
        self._num_tries = 0

    async def follow(self) -> JobEnd:
        from infra.dashboard import AwayError

        while True:
            fault: Exception | None = None
            try:
                fault = await self._copy_log()
                if (end := self._check_end()) is not None:
                    return end
            except AwayError as silence:
                self._note_away(silence)
            await self._wait(fault)

    async def _copy_log(self) -> Exception | None:
        """Show the log from where it stopped until the stream or the job ends; return the error that broke it."""
        stream: Any = self._cluster.tail_job_logs(self._job_id)
        position = 0
        waiting = asyncio.ensure_future(_next(stream))
        try:
            while True:
                await asyncio.wait([waiting], timeout=_SECONDS_OF_SILENCE)
                if not waiting.done():
                    if str(self._cluster.get_job_info(self._job_id).status) in _ENDED:
                        return None
                    continue
                if isinstance(text := waiting.result(), Exception | None):
                    return text
                self._show(text[max(0, self._num_shown - position) :])
                position += len(text)
                waiting = asyncio.ensure_future(_next(stream))
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await stream.aclose()

    def _show(self, text: str) -> None:
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()
            self._num_shown += len(text)
            self._num_tries = 0

    def _check_end(self) -> JobEnd | None:
        """End of the job, after the rest of its log is shown; None while it runs."""
        info = self._cluster.get_job_info(self._job_id)
        self._note_answer()
        if str(info.status) not in _ENDED:
            return None
        log = self._read_whole_log()
        self._show(log[self._num_shown :])
        return JobEnd(self._job_id, str(info.status), info.driver_exit_code, str(info.message or ""), log)

    def _read_whole_log(self) -> str:
        """Log of a job that has ended; empty if it was lost with its node."""
        for _ in range(_TRIES_FOR_LOG):
            with suppress(OSError):
                return str(self._cluster.get_job_logs(self._job_id))
            time.sleep(_SECONDS_BETWEEN_TRIES)
        self._warn(f"{self._cluster.get_address()} did not return the end of the log of job {self._job_id}")
        return ""

    def _note_away(self, fault: Exception) -> None:
        """Warn once that the cluster does not answer; raise ConnectionError if it has been away for too long."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._warn(
                f"{self._cluster.get_address()} does not answer: {fault}. Job {self._job_id} may still run; "
                f"trying again for {self._seconds_away:.0f} s"
            )
        if now - self._away_since > self._seconds_away:
            raise ConnectionError(
                f"{self._cluster.get_address()} gave no answer for {self._seconds_away:.0f} s: {fault}"
            )

    def _note_answer(self) -> None:
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._warn(f"{self._cluster.get_address()} answers again after {seconds:.0f} s")
            self._away_since = None

    async def _wait(self, fault: Exception | None) -> None:
        """Wait before the next try, longer after each one that brought nothing."""
        if fault is not None and self._away_since is None and self._num_tries == 0:
            self._warn(f"the log of job {self._job_id} broke off: {fault or type(fault).__name__}; resuming it")
        seconds = _SECONDS_BETWEEN_TRIES * 2**self._num_tries
        self._num_tries += seconds < _MAX_SECONDS_BETWEEN_TRIES
        await asyncio.sleep(min(_MAX_SECONDS_BETWEEN_TRIES, seconds))


async def _next(stream: AsyncIterator[str]) -> str | Exception | None:
    """Next piece of a log; None at its end, the exception if it broke off, of which Ray's client has several."""
    import aiohttp

    try:
        return await anext(stream, None)
    except (RuntimeError, OSError, aiohttp.ClientError) as fault:
        return fault


@contextmanager
def stage_code() -> Iterator[Path]:
    """Yield a folder with only our Python files: no data, keys or virtual environment goes to the cluster."""
    sources = _read_sources()
    with TemporaryDirectory() as scratch:
        for name, data in sources.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield Path(scratch)


def _read_sources() -> dict[str, bytes]:
    """Our Python files by name; raises InvalidURIError for links, for too large files and for changed code."""
    sources: dict[str, bytes] = {}
    for path in list_source_files():
        _refuse_unsendable(path)
        sources[str(path.relative_to(PROJECT_ROOT))] = path.read_bytes()
    if (total := sum(map(len, sources.values()))) > _MAX_BYTES:
        raise InvalidURIError(f"our Python files have {total} bytes, more than {_MAX_BYTES}: remove what is not code")
    if compute_revision(sources) != compute_code_revision():
        raise InvalidURIError("our Python files have changed since the start: run the same command again")
    return sources


def _refuse_unsendable(path: Path) -> None:
    linked = next((part for part in (path, *path.parents) if part.is_symlink() and PROJECT_ROOT in part.parents), None)
    if linked:
        raise InvalidURIError(
            f"{linked} is a symbolic link, and only files are sent: replace it by a copy or remove it"
        )
    if (size := path.stat().st_size) > _MAX_FILE_BYTES:
        raise InvalidURIError(f"{path} has {size} bytes, more than {_MAX_FILE_BYTES}: remove it if it is not code")
