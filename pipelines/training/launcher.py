"""The Ray Train entry: places the ranks of a run, starts them again when one is lost, and waits for the end.

In: a `TrainRun` and a number of workers. Out: the URI of the last checkpoint. Checkpoints are ours, so Ray's storage is
a scratch folder of each attempt and its `report` carries metrics only.
"""

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

import pyarrow.fs
import torch

from infra import storage
from infra.cluster import connect_ray, count_cores, count_gpus, has_waiting_group
from infra.world import RankLostError, World, get_world
from pipelines.checkpoints import find_newest_clock
from pipelines.records import JobError
from pipelines.training.checkpointer import PROGRESS_FILE
from pipelines.training.heartbeat import Every, HeartbeatMonitor, explain_wait
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.updates import NonFiniteError
from pipelines.training.worker import OnPoint, run_rank

_MAX_STARTS: Final = 3
"""Starts of a training at one checkpoint. A long training that gets further may lose workers many times."""
_MAX_ELASTIC_STARTS: Final = 20
"""Starts at one checkpoint where the number of workers may change, as each change is a start as well."""
_MAX_FAILURES: Final = 10_000
"""Ray Train restarts on every failure: `has_starts_left` decides about the end."""
_ANSWER_SECONDS: Final = 20.0
_COLLECTIVE_TIMEOUT_SECONDS: Final = 600

Device = Literal["auto", "cpu", "cuda"]

log = logging.getLogger(__name__)


def launch(
    run: TrainRun,
    num_workers: int,
    progress: Callable[[dict[str, Any]], None],
    device: Device = "auto",
    warn: Callable[[str], None] = log.warning,
    min_workers: int | None = None,
    on_point: OnPoint | None = None,
) -> str:
    """Run the training on `num_workers` ranks, a core for each process; `progress` gets the newest point.

    `cuda`: a GPU for each rank as well, for which a cluster may have to grow; `auto`: GPUs where there are enough for
    the fewest workers, else CPUs alone. `warn` gets, within a minute, the name of a rank that hangs and its place in
    the code, restarts and their reasons, and the resources that a cluster lacks. With `min_workers` the training goes
    on with as few where nodes are lost, and takes more again when there are some. `on_point` is called on the ranks.
    """
    scratch = storage.join(run.out, ".ray")
    with connect_ray(num_workers * _count_cores(run)):
        import ray

        monitor, workers = _start_monitor(), (min_workers or num_workers, num_workers)
        resources = {"CPU": _count_cores(run), "GPU": int(_use_gpus(device, workers[0], warn))}
        show_point = _follow_points(storage.join(run.out, PROGRESS_FILE), progress)
        try:
            with Every(1.0, show_point), Every(5.0, _follow_ranks(monitor, workers, resources, warn)):
                return _fit(run, workers, resources, scratch, {"monitor": monitor, "on_point": on_point})
        finally:
            ray.kill(monitor)
            _remove_scratch(scratch, warn)


def has_starts_left(num_starts: int, num_faults: int, *, is_elastic: bool) -> bool:
    """Whether a training may start at a checkpoint at which it has started `num_starts` times, this one included.

    `num_faults` of these starts were ended by a fault; the others by a new number of workers or by a lost process.
    """
    return num_starts <= (_MAX_ELASTIC_STARTS if is_elastic else _MAX_STARTS) and num_faults < _MAX_STARTS


def _use_gpus(device: Device, min_workers: int, warn: Callable[[str], None]) -> bool:
    """Whether ranks train on GPUs; warns where there are some, but too few."""
    if device != "auto":
        return device == "cuda"
    found = count_gpus()
    if 0 < found < min_workers:
        warn(f"{found} GPUs for {min_workers} workers: they train on CPUs; --device cuda waits for GPUs")
    return found >= min_workers


def _follow_ranks(
    monitor: Any, workers: tuple[int, int], resources: dict[str, int], warn: Callable[[str], None]
) -> Callable[[], None]:
    """Function that warns of new messages of ranks, and of the reason why none has begun."""

    def follow() -> None:
        for line in _ask(monitor.drain_messages.remote(), []):
            warn(line)
        if seconds := _ask(monitor.measure_wait.remote(), 0.0):
            there = {"CPU": count_cores(), "GPU": count_gpus()}
            warn(explain_wait(workers, resources, there, has_waiting_group(resources), seconds))

    return follow


def _remove_scratch(scratch: str, warn: Callable[[str], None]) -> None:
    """Remove the files of Ray Train; a failure changes nothing about the end of the training."""
    try:
        storage.remove(scratch)
    except Exception as fault:  # noqa: BLE001 - a store, or a controller that still writes: nothing of ours is there
        warn(f"left behind, and safe to remove: {scratch} ({fault})")


def _fit(
    run: TrainRun, workers: tuple[int, int], resources: dict[str, int], scratch: str, config: dict[str, Any]
) -> str:
    from ray import train  # not at the head of the file: `connect_ray` must come before Ray is imported
    from ray.train.torch import TorchConfig, TorchTrainer

    # Describe the training to Ray.
    fs, path = storage.locate(scratch)
    is_elastic = workers[0] < workers[1]
    trainer: Any = TorchTrainer(
        cast("Callable[[dict[Any, Any]], None]", _run_worker),  # Ray's type forgets that the loop's value comes back
        train_loop_config={"run": run, "is_elastic": is_elastic, **config},
        scaling_config=train.ScalingConfig(
            num_workers=cast("Any", workers if is_elastic else workers[1]),
            use_gpu=resources["GPU"] > 0,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if resources["GPU"] else "gloo", timeout_s=_COLLECTIVE_TIMEOUT_SECONDS
        ),
        run_config=train.RunConfig(
            name=f"{run.run_id}-{secrets.token_hex(4)}",
            storage_path=path,
            storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)),
            failure_config=train.FailureConfig(max_failures=_MAX_FAILURES),
        ),
    )
    # Wait for its end.
    try:
        end = _run_in_thread(trainer.fit).return_value
    except train.TrainingFailedError as fault:
        raise JobError(_find_first_fault(fault)) from None
    if isinstance(end, JobError):
        raise end
    return str(end)


def _run_in_thread(work: Callable[[], Any]) -> Any:
    """Run work in a daemon thread and wait: in this thread Ray Train would take Ctrl-C and report success.

    A ThreadPoolExecutor would join its thread at exit, and Ctrl-C wait for the training.
    """
    ended: Future[Any] = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as fault:  # noqa: BLE001 - raised again by the thread that waits
            ended.set_exception(fault)

    threading.Thread(target=run, daemon=True).start()
    return ended.result()


def _count_cores(run: TrainRun) -> int:
    """Cores of a rank: its own and one for each of its loader workers."""
    return 1 + run.num_loader_workers


def _run_worker(config: dict[str, Any]) -> str | JobError:
    """Run one rank. An error that every start would repeat alike is returned: Ray Train restarts on exceptions."""
    from ray.train import report
    from ray.train.torch import get_device

    run, monitor, world = config["run"], config["monitor"], get_world(get_device())
    try:
        with _forward_warnings(monitor):
            end = _find_end(run, monitor, world, is_elastic=config["is_elastic"])
            if end is not None:
                return end
            if world.device.type == "cuda":  # only now: a start with a GPU that is broken counts too
                torch.cuda.set_device(world.device)
            hook = {"on_point": config["on_point"]} if config["on_point"] else {}
            return run_rank(run, world, report, monitor.record_beat.remote, **hook)
    except NonFiniteError as fault:
        return fault
    except Exception as fault:
        own = not isinstance(fault, RankLostError)
        _ask(monitor.record_fault.remote(f"rank {world.rank}: {_explain_fault(fault)}", own=own), None)
        raise


@contextmanager
def _forward_warnings(monitor: Any) -> Iterator[None]:
    """Forward warnings of this rank to the launching process for the time of a block."""
    handler = _ForwardHandler(monitor.add_message.remote)
    loggers = [logging.getLogger(name) for name in ("pipelines", "infra")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _ForwardHandler(logging.Handler):
    """Forwards warnings and errors."""

    def __init__(self, send: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._send, self._pid = send, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging; loader workers, which are forks and cannot reach Ray, print theirs."""
        if os.getpid() == self._pid:
            self._send(record.getMessage())
        elif logging.lastResort is not None:
            logging.lastResort.handle(record)


def _start_monitor() -> Any:
    """Start the process that ranks report to, on this node; it lasts as long as the launching one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(HeartbeatMonitor).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1).remote()


def _ask(reference: Any, default: Any) -> Any:
    """Value of a reference of Ray, or the default where none comes in time: a missing report ends no training."""
    import ray

    try:
        return ray.get(reference, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as fault:
        log.warning("no answer about the ranks: %s", fault)
        return default


def _explain_fault(fault: Exception) -> str:
    """Message of an error; for a lack of memory on a GPU, with the remedies."""
    if isinstance(fault, torch.OutOfMemoryError):
        first = str(fault).partition(". ")[0]
        return (
            f"{first}: use more --workers; or, at another --out, more --grad-accumulation or a recipe in bfloat16 "
            "(--dry-run predicts the memory)"
        )
    return str(fault)


def _find_end(run: TrainRun, monitor: Any, world: World, *, is_elastic: bool) -> JobError | None:
    """Error by which this start must not begin, the same on all ranks; None where it may.

    No start is left at this checkpoint, nodes do not see the run's folder, or another command trains there.
    """
    counts = _count_starts(run, monitor, world.size, is_elastic=is_elastic) if world.rank == 0 else (0,) * 3
    starts, is_given_up, clock = _sum_over_ranks(world, counts)
    if is_given_up:
        ends = _ask(monitor.describe_ends.remote(), "unknown")
        where = "a clock that cannot be read" if clock < 0 else f"{clock} images"
        return JobError(f"gave up after {starts} starts at {where}: {ends}")
    num_without, is_other = _sum_over_ranks(world, _check_folder(run))
    if num_without:
        return JobError(
            f"{num_without} of {world.size} ranks do not see {run.out}: --out must be a folder that all nodes see"
        )
    if is_other:
        return JobError(f"another command has begun to train at {run.out}: this one has ended, that one goes on")
    return None


def _sum_over_ranks(world: World, numbers: Sequence[int]) -> list[int]:
    sums = torch.tensor(numbers, dtype=torch.float64)
    world.average([sums])
    return [round(float(number) * world.size) for number in sums]


def _count_starts(run: TrainRun, monitor: Any, num_ranks: int, *, is_elastic: bool) -> tuple[int, bool, int]:
    """Number of starts before this one at this clock, whether none is left, and the clock; -1 if unreadable."""
    clock = _read_clock(run)
    starts, faults = _ask(monitor.begin.remote(clock, num_ranks), (1, 0))
    return starts - 1, not has_starts_left(starts, faults, is_elastic=is_elastic), -1 if clock is None else clock


def _read_clock(run: TrainRun) -> int | None:
    """Clock of the newest checkpoint; None where it cannot be read: the start counts, and restoring it raises why."""
    try:
        return find_newest_clock(run.out)
    except Exception as fault:  # noqa: BLE001 - a store's, of whatever kind
        log.warning("the clock of the run cannot be read: %s", fault)
        return None


def _check_folder(run: TrainRun) -> tuple[int, int]:
    """Whether this rank does not see the run's folder, and whether another command trains there; as 0 or 1."""
    try:
        return 0, is_superseded(run)
    except FileNotFoundError as fault:
        log.warning("%s does not see the folder of the run: %s", socket.gethostname(), fault)
        return 1, 0


def _find_first_fault(fault: Exception) -> str:
    """Message of the lowest rank that has failed."""
    failures: dict[int, Exception] = getattr(fault, "worker_failures", {})
    for rank, cause in sorted(failures.items()):
        return f"rank {rank}: {cause}"
    return str(fault)


def _follow_points(uri: str, progress: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Function that passes a newer point of the run on to `progress`."""
    seen = b""

    def follow() -> None:
        nonlocal seen
        if storage.exists(uri) and (data := storage.read_bytes(uri)) != seen:
            seen = data
            progress(json.loads(data))

    return follow
