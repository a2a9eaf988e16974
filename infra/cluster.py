"""The Ray cluster: a private one that this process starts, or the one that RAY_ADDRESS names.

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
"""Tasks that wait on a cluster without cores yet, so that its autoscaler sees them."""
_TRANSIENT: Final = [ConnectionError, MemoryError]
_JOIN_TRIES: Final = "2"
"""Each lasts 40 s. Ray's default of 20 would be a quarter of an hour without a message."""
_OOM_RETRIES: Final = "RAY_task_oom_retries"
_RUN_AGAIN: Final = "Run the same command again to continue."
_GRPC_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""Preface and empty settings of an HTTP/2 client."""
_GRPC_SETTINGS: Final = b"\x04"
"""Type of the frame with which a server answers."""
_CONNECT_SECONDS: Final = 10.0
_NAME_LENGTH: Final = 200

log = logging.getLogger(__name__)


class TaskLostError(RuntimeError):
    """A task whose process was killed at every try."""


@contextmanager
def connect_ray(num_cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for a block: to RAY_ADDRESS if it is set, else to an own cluster that ends with the block.

    A nested block changes nothing. An own cluster has a fresh token that only its own processes know. Raises
    ConnectionError if no cluster answers at RAY_ADDRESS, or if an own one does not start.
    """
    apply_defaults()
    if not is_ours():
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", _JOIN_TRIES)  # Ray reads it at import
    elif "ray" not in sys.modules:
        set_own_token()
    import ray

    if ray.is_initialized():
        yield
        return
    with chdir(PROJECT_ROOT), _keep_sigterm():  # tasks import from the folder Ray starts in: not from a user's `infra`
        if is_ours():
            _start(ray, num_cpus)
        else:
            _join(ray, os.environ["RAY_ADDRESS"])
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _keep_sigterm() -> Iterator[None]:
    """Keep this process's SIGTERM handler: Ray's own would end the process at once, without cleaning up."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _join(ray: Any, address: str) -> None:
    is_job = _JOB_VARIABLE in os.environ  # a job gets its environment at submission, and may set it only once
    runtime_env = None if is_job else {"env_vars": DEFAULTS}
    try:
        _check_listener(address)
        ray.init(runtime_env=runtime_env, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as fault:  # noqa: BLE001 - Ray raises bare exceptions here
        raise ConnectionError(
            f"could not join the Ray cluster at RAY_ADDRESS={address}: {_cut_line(fault)}; correct the address or "
            "RAY_AUTH_TOKEN, or unset RAY_ADDRESS to work on this machine alone"
        ) from None


def _check_listener(address: str) -> None:
    """Raise OSError where nothing speaks gRPC, for which Ray would wait minutes; `auto` has no address to check."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):
        return
    with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0") == "0":
            connection.sendall(_GRPC_GREETING)
            if connection.recv(4)[3:] != _GRPC_SETTINGS:
                raise ConnectionError("what listens there is no Ray head")


def _start(ray: Any, num_cpus: int | None) -> None:
    """Start an own cluster; try twice, as on a busy machine the first may exceed Ray's time limit."""
    before = _find_ray_children()
    try:
        _start_once(ray, num_cpus)
        return
    except Exception as fault:  # noqa: BLE001 - Ray raises bare exceptions here
        log.warning("Ray did not start on this machine: %s; trying once more", _cut_line(fault))
    _kill_children(ray, _find_ray_children() - before)
    try:
        _start_once(ray, num_cpus)
    except Exception as fault:  # noqa: BLE001 - as above
        _kill_children(ray, _find_ray_children() - before)
        raise ConnectionError(
            f"Ray did not start on this machine in two tries: {_cut_line(fault)}; end other work or free memory, "
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


def _find_ray_children() -> set[psutil.Process]:
    """Ray processes that this one has started."""
    found = set()
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if any("/ray/" in word for word in process.cmdline()):
                found.add(process)
    return found


def _kill_children(ray: Any, processes: set[psutil.Process]) -> None:
    """Kill what a failed start has left: it would slow the next one down."""
    ray.shutdown()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, _CONNECT_SECONDS)


def _cut_line(fault: Exception) -> str:
    """First sentence of an exception's message."""
    line = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
    return line.partition(". ")[0].rstrip(".")


def count_cores() -> int:
    """Cores that the cluster has now; inside a `connect_ray` block."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def count_gpus() -> int:
    """GPUs that the cluster has now; inside a `connect_ray` block."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def has_waiting_group(resources: dict[str, int]) -> bool:
    """Whether a placement group with a bundle of these resources by name still waits for nodes."""
    from ray.util import placement_group_table

    ours = {name: float(number) for name, number in resources.items() if number}
    waiting = (group for group in placement_group_table().values() if group["state"] in ("PENDING", "RESCHEDULING"))
    return any(ours in group["bundles"].values() for group in waiting)


def is_ours() -> bool:
    """Whether the cluster is an own one on this machine, which never grows."""
    return not os.environ.get("RAY_ADDRESS")


def set_own_token() -> None:
    """Set a token for an own cluster in this process's environment, unless the user has configured one.

    Call it before Ray is imported: Ray reads its authentication mode once.
    """
    if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        os.environ["RAY_AUTH_MODE"] = "token"


def run_tasks(
    function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], *, max_retries: int = 3
) -> Iterator[Result]:
    """Yield results of calls, one per argument tuple, as Ray tasks of one core each, in order of completion.

    At most two tasks per core run or wait. Cores are counted each time, for a cluster grows on demand. Lost workers,
    broken connections and lack of memory are retried; any other exception is raised here as itself. Raises
    TaskLostError, with the task's name, if its process was killed at every try.
    """
    import ray

    remote = ray.remote(function).options(num_cpus=1, max_retries=max_retries, retry_exceptions=_TRANSIENT)
    waiting = iter(arguments)
    running: dict[Any, tuple[Any, ...]] = {}
    while True:
        limit = max(_MIN_IN_FLIGHT, 2 * count_cores())
        running |= {remote.remote(*args): args for args in islice(waiting, max(0, limit - len(running)))}
        if not running:
            return
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield _get_result(ray, done, format_task_name(function, running.pop(done)))


def _get_result(ray: Any, reference: Any, name: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as fault:
        if isinstance(fault.cause, Exception):
            raise fault.cause from fault  # its text has the lines of the task, of foreign code, too
        raise
    except ray.exceptions.OutOfMemoryError:
        raise TaskLostError(
            f"{name} was killed at each of {1 + int(os.environ[_OOM_RETRIES])} tries: its node ran out of memory. "
            f"Free memory there, or use nodes with more. {_RUN_AGAIN}"
        ) from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as fault:
        what = "node was lost" if isinstance(fault, ray.exceptions.NodeDiedError) else "process died"
        raise TaskLostError(
            f"{name} failed at each try: its {what}. The kernel kills processes when memory is short (see dmesg), "
            f"and a library may crash on a damaged file. {_RUN_AGAIN}"
        ) from None


def format_task_name(function: Callable[..., Any], arguments: Iterable[Any]) -> str:
    """Name of a call for messages, with its arguments that are words, numbers or files: `write_shard train 3`."""
    return f"{function.__name__.strip('_')} {' '.join(_format_words(arguments))}"[:_NAME_LENGTH]


def _format_words(arguments: Iterable[Any]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, (str, int)):
            yield str(argument)
        elif isinstance(argument, tuple):
            yield from _format_words(argument)
        elif name := getattr(argument, "file", getattr(argument, "__name__", "")):
            yield str(name)
