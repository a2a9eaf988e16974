"""The Ray cluster: a private one in this process's care, or the one that RAY_ADDRESS names.

In: functions and small arguments. Out: small results. Pixels never pass here: tasks read and write files themselves.
"""

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from itertools import islice
from typing import Any, Final, TypeVar

from infra.settings import DEFAULTS, PROJECT_ROOT, apply_defaults

Result = TypeVar("Result")

_JOB_VARIABLE: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_MIN_IN_FLIGHT: Final = 16
"""So many tasks wait on a cluster that has no cores yet: its autoscaler sees them."""
_PASSING: Final = [ConnectionError, MemoryError]
"""Faults that may be gone at the next try."""


@contextmanager
def connected(num_cpus: int | None = None) -> Iterator[None]:
    """Ray for the time of the block: RAY_ADDRESS if it is set, else a cluster of our own that ends with the block.

    Inside another such block this one changes nothing. A cluster of our own has a fresh token that only its own
    processes know.
    """
    apply_defaults()
    if not os.environ.get("RAY_ADDRESS") and "ray" not in sys.modules:
        own_token()
    import ray

    if ray.is_initialized():
        yield
        return
    with chdir(PROJECT_ROOT), _own_end():  # Ray lets tasks import from where it starts: not a user's own folder `infra`
        _start(ray, num_cpus)
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


def _start(ray: Any, num_cpus: int | None) -> None:
    if not is_ours():
        in_job = _JOB_VARIABLE in os.environ  # a job has its environment from its submission, and may name it only once
        runtime_env = None if in_job else {"env_vars": DEFAULTS}
        ray.init(runtime_env=runtime_env, log_to_driver=False, logging_level=logging.WARNING)
    else:
        cpus = max(num_cpus or 0, os.cpu_count() or 1)
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=256 << 20,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


def num_cores() -> int:
    """The cores that the cluster has now; inside a `connected` block."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def num_gpus() -> int:
    """The GPUs that the cluster has now; inside a `connected` block."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def is_ours() -> bool:
    """Whether the cluster is one of our own on this machine, which never grows."""
    return not os.environ.get("RAY_ADDRESS")


def own_token() -> None:
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
    broken connections and want of memory are tried again; any other exception is raised here as itself.
    """
    import ray

    remote = ray.remote(function).options(num_cpus=1, max_retries=max_retries, retry_exceptions=_PASSING)
    waiting = iter(arguments)
    running: list[Any] = []
    while True:
        limit = max(_MIN_IN_FLIGHT, 2 * num_cores())
        running += [remote.remote(*args) for args in islice(waiting, max(0, limit - len(running)))]
        if not running:
            return
        done, running = ray.wait(running, num_returns=1)
        yield _result(ray, done[0])


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as fault:
        if isinstance(fault.cause, Exception):
            raise fault.cause from None
        raise
