"""The Ray cluster: a private one in this process's care, or the one that RAY_ADDRESS names.

In: functions and small arguments. Out: small results. Pixels never pass here: tasks read and write files themselves.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, suppress
from itertools import islice
from typing import Any, Final, TypeVar

import psutil

from infra.settings import DEFAULTS, PROJECT_ROOT, apply_defaults

Result = TypeVar("Result")

_JOB_VARIABLE: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_MIN_IN_FLIGHT: Final = 16
"""So many tasks wait on a cluster that has no cores yet: its autoscaler sees them."""
_PASSING: Final = [ConnectionError, MemoryError]
"""Faults that may be gone at the next try."""
_JOIN_TRIES: Final = "2"
"""Each lasts 40 s. Ray's own number of tries is 20: that is a quarter of an hour without a word."""
_OOM_RETRIES: Final = "RAY_task_oom_retries"
_GOES_ON: Final = "The same command goes on from here."
_CONNECT_SECONDS: Final = 10.0
_NAME_LENGTH: Final = 200

log = logging.getLogger(__name__)


class TaskLostError(RuntimeError):
    """A task whose process was killed each time it was tried."""


@contextmanager
def connect_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Ray for the time of the block: RAY_ADDRESS if it is set, else a cluster of our own that ends with the block.

    Inside another such block this one changes nothing. A cluster of our own has a fresh token that only its own
    processes know. Raises ConnectionError where no cluster answers at RAY_ADDRESS, or one of our own does not start.
    """
    apply_defaults()
    if not is_ours():
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", _JOIN_TRIES)  # read as Ray is imported
    elif "ray" not in sys.modules:
        set_own_token()
    import ray

    if ray.is_initialized():
        yield
        return
    with chdir(PROJECT_ROOT), _own_end():  # Ray lets tasks import from where it starts: not a user's own folder `infra`
        if is_ours():
            _start(ray, num_cpus)
        else:
            _join(ray, os.environ["RAY_ADDRESS"])
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_end() -> Iterator[None]:
    """Keeps what SIGTERM does here: Ray would make it end this process at once, and nothing would be put in order."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _join(ray: Any, address: str) -> None:
    """Connects to the cluster at the address."""
    in_job = _JOB_VARIABLE in os.environ  # a job has its environment from its submission, and may name it only once
    runtime_env = None if in_job else {"env_vars": DEFAULTS}
    try:
        _knock(address)
        ray.init(runtime_env=runtime_env, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as fault:  # noqa: BLE001 - Ray raises bare exceptions here
        raise ConnectionError(
            f"no Ray cluster can be joined at RAY_ADDRESS={address}: {_first_line(fault)}; correct the address or "
            "RAY_AUTH_TOKEN, or unset RAY_ADDRESS to work on this machine alone"
        ) from None


def _knock(address: str) -> None:
    """Raises OSError where nobody listens, for which Ray itself would wait for minutes; `auto` has no address yet."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def _start(ray: Any, num_cpus: int | None) -> None:
    """Starts a cluster of our own; a second time where the first is not up in Ray's time, as on a busy machine."""
    before = _children()
    try:
        _start_once(ray, num_cpus)
        return
    except Exception as fault:  # noqa: BLE001 - Ray raises bare exceptions here
        log.warning("Ray did not start on this machine: %s; once more", _first_line(fault))
    _end(ray, _children() - before)
    try:
        _start_once(ray, num_cpus)
    except Exception as fault:  # noqa: BLE001 - as above
        _end(ray, _children() - before)
        raise ConnectionError(
            f"Ray did not start on this machine in two tries: {_first_line(fault)}; end other work or free memory, "
            "then run the same command again"
        ) from None


def _start_once(ray: Any, num_cpus: int | None) -> None:
    ray.init(
        address="local",
        num_cpus=max(num_cpus or 0, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=256 << 20,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _children() -> set[psutil.Process]:
    """Processes of Ray's that this one has started."""
    found = set()
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if any("/ray/" in word for word in process.cmdline()):
                found.add(process)
    return found


def _end(ray: Any, left: set[psutil.Process]) -> None:
    """Ends what a start has left that failed: it would take the next one's time."""
    ray.shutdown()
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, _CONNECT_SECONDS)


def _first_line(fault: Exception) -> str:
    """The first sentence that it says."""
    line = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
    return line.partition(". ")[0].rstrip(".")


def count_cores() -> int:
    """The cores that the cluster has now; inside a `connect_ray` block."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def count_gpus() -> int:
    """The GPUs that the cluster has now; inside a `connect_ray` block."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def has_waiting_group(resources: dict[str, int]) -> bool:
    """Whether a group of bundles, each of these resources by name, has no place in the cluster yet."""
    from ray.util import placement_group_table

    ours = {name: float(number) for name, number in resources.items() if number}
    waiting = (group for group in placement_group_table().values() if group["state"] in ("PENDING", "RESCHEDULING"))
    return any(ours in group["bundles"].values() for group in waiting)


def is_ours() -> bool:
    """Whether the cluster is one of our own on this machine, which never grows."""
    return not os.environ.get("RAY_ADDRESS")


def set_own_token() -> None:
    """Gives this process and its children a token for a cluster of their own, unless the user has one configured.

    Only before Ray is imported: it reads its authentication mode once.
    """
    if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        os.environ["RAY_AUTH_MODE"] = "token"


def run_tasks(
    function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], *, max_retries: int = 3
) -> Iterator[Result]:
    """Calls the function once per argument tuple in Ray tasks of one core; results come in the order of completion.

    At most two tasks per core are under way, cores counted anew each time, for a cluster grows on demand. Lost workers,
    broken connections and want of memory are tried again; any other exception is raised here as itself. Raises
    TaskLostError, with the task's name, where its process was killed at each try.
    """
    import ray

    remote = ray.remote(function).options(num_cpus=1, max_retries=max_retries, retry_exceptions=_PASSING)
    waiting = iter(arguments)
    running: dict[Any, tuple[Any, ...]] = {}
    while True:
        limit = max(_MIN_IN_FLIGHT, 2 * count_cores())
        running |= {remote.remote(*args): args for args in islice(waiting, max(0, limit - len(running)))}
        if not running:
            return
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield _result(ray, done, format_task_name(function, running.pop(done)))


def _result(ray: Any, reference: Any, name: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as fault:
        if isinstance(fault.cause, Exception):
            raise fault.cause from None
        raise
    except ray.exceptions.OutOfMemoryError:
        raise TaskLostError(
            f"{name} was killed at each of {1 + int(os.environ[_OOM_RETRIES])} tries: its node ran out of memory. "
            f"Free memory there, or take nodes with more. {_GOES_ON}"
        ) from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as fault:
        what = "node was lost" if isinstance(fault, ray.exceptions.NodeDiedError) else "process died"
        raise TaskLostError(
            f"{name} failed at each try: its {what}. The kernel kills where memory is short (dmesg tells), and "
            f"a library may crash at a damaged file. {_GOES_ON}"
        ) from None


def format_task_name(function: Callable[..., Any], arguments: Iterable[Any]) -> str:
    """Function and those of its arguments that are words, numbers or files: `write_shard train 3`, for messages."""
    return f"{function.__name__.strip('_')} {' '.join(_words(arguments))}"[:_NAME_LENGTH]


def _words(arguments: Iterable[Any]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, (str, int)):
            yield str(argument)
        elif isinstance(argument, tuple):
            yield from _words(argument)
        elif name := getattr(argument, "file", getattr(argument, "__name__", "")):
            yield str(name)
