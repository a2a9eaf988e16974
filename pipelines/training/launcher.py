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
from infra.cluster import connect_ray, has_waiting_group, count_cores, count_gpus
from infra.world import RankLostError, World, current_world
from pipelines.checkpoints import find_newest_clock
from pipelines.records import JobError
from pipelines.training.checkpointer import PROGRESS_FILE
from pipelines.training.heartbeat import HeartbeatMonitor
from pipelines.training.run import TrainRun, is_superseded
from pipelines.training.updates import NonFiniteError
from pipelines.training.heartbeat import explain_wait
from pipelines.training.worker import run_rank

_MAX_STARTS: Final = 3
"""So often a training begins at one checkpoint. A long one that gets further may lose workers many times."""
_MAX_SIZES: Final = 20
"""The same where the number of workers may change, which is a new start as well; three faults are the end there too."""
_MAX_FAILURES: Final = 10_000
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
) -> str:
    """Runs the training on `num_workers` ranks, a core for each process; `progress` gets the newest point.

    `cuda`: a GPU for each rank as well, for which a cluster may have to grow; `auto`: where there are as many as the
    training takes at least, else CPUs alone. `warn` hears within a minute of a rank that hangs, by its name and place
    in the code, of ranks that begin again and why, and of a cluster without room. With `min_workers` the training goes
    on with as few where nodes are lost, and takes more again when there are some.
    """
    scratch = storage.join(run.out, ".ray")
    with connect_ray(num_workers * _num_cores(run)):
        import ray

        roll, fewest = _roll(), min_workers or num_workers
        resources = {"CPU": _num_cores(run), "GPU": int(_takes_gpus(device, fewest, warn))}
        newest = _newest_point(storage.join(run.out, PROGRESS_FILE), progress)
        try:
            with _Every(1.0, newest), _Every(5.0, _listening(roll, (fewest, num_workers), resources, warn)):
                return _fit(run, (fewest, num_workers), resources, scratch, roll)
        finally:
            ray.kill(roll)
            _clear(scratch, warn)


def _takes_gpus(device: Device, fewest: int, warn: Callable[[str], None]) -> bool:
    """Whether ranks train on GPUs; where there are some and too few it is said."""
    if device != "auto":
        return device == "cuda"
    found = count_gpus()
    if 0 < found < fewest:
        warn(f"{found} GPUs for {fewest} workers: they train on CPUs; --device cuda waits for GPUs")
    return found >= fewest


def _listening(
    roll: Any, workers: tuple[int, int], resources: dict[str, int], warn: Callable[[str], None]
) -> Callable[[], None]:
    """Tells what there is to say of the ranks, and why none has begun."""

    def listen() -> None:
        for line in _answer(roll.news.remote(), []):
            warn(line)
        if seconds := _answer(roll.seconds_waiting.remote(), 0.0):
            there = {"CPU": count_cores(), "GPU": count_gpus()}
            warn(explain_wait(workers, resources, there, has_waiting_group(resources), seconds))

    return listen


def _clear(scratch: str, warn: Callable[[str], None]) -> None:
    """Removes what Ray Train has left; where that fails the training has ended as it has ended."""
    try:
        storage.remove(scratch)
    except Exception as fault:  # noqa: BLE001 - a store, or a controller that still writes: nothing of ours is there
        warn(f"left behind, and safe to remove: {scratch} ({fault})")


def _fit(run: TrainRun, workers: tuple[int, int], resources: dict[str, int], scratch: str, roll: Any) -> str:
    from ray import train  # not at the head of the file: `connect_ray` must come before Ray is imported
    from ray.train.torch import TorchConfig, TorchTrainer

    fs, path = storage.locate(scratch)
    number: Any = workers if workers[0] < workers[1] else workers[1]
    trainer: Any = TorchTrainer(
        cast("Callable[[dict[Any, Any]], None]", _rank),  # Ray's type forgets that the loop's value comes back
        train_loop_config={
            "run": run,
            "roll": roll,
            "max_starts": _MAX_STARTS if workers[0] == workers[1] else _MAX_SIZES,
        },
        scaling_config=train.ScalingConfig(
            num_workers=number, use_gpu=resources["GPU"] > 0, resources_per_worker=resources
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
    try:
        end = _aside(trainer.fit).return_value
    except train.TrainingFailedError as fault:
        raise JobError(_first_fault(fault)) from None
    if isinstance(end, JobError):
        raise end
    return str(end)


def _aside(work: Callable[[], Any]) -> Any:
    """Runs it in a thread of its own and waits: Ray Train would take over Ctrl-C in this one, and call the end good."""
    ended: Future[Any] = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as fault:  # noqa: BLE001 - raised again by the one who waits
            ended.set_exception(fault)

    threading.Thread(target=run, daemon=True).start()
    return ended.result()


def _num_cores(run: TrainRun) -> int:
    """Of a rank: its own and one for each of its loader processes."""
    return 1 + run.num_loader_workers


def _rank(config: dict[str, Any]) -> str | JobError:
    """A fault that all ranks see alike, and would see again, is a value: Ray Train tries again after exceptions."""
    from ray.train import report
    from ray.train.torch import get_device

    run, roll, world = config["run"], config["roll"], current_world(get_device())
    try:
        with _overheard(roll):
            end = _end_before_it_begins(run, roll, world, config["max_starts"])
            if world.device.type == "cuda" and end is None:  # a start with a GPU that is broken counts too
                torch.cuda.set_device(world.device)
            return end or run_rank(run, world, report, roll.note.remote)
    except NonFiniteError as fault:
        return fault
    except Exception as fault:
        own = not isinstance(fault, RankLostError)
        _answer(roll.blame.remote(f"rank {world.rank}: {_explained(fault)}", own=own), None)
        raise


@contextmanager
def _overheard(roll: Any) -> Iterator[None]:
    """Brings warnings of this rank to the launching process for the time of a block."""
    ear = _Receiver(roll.tell.remote)
    loggers = [logging.getLogger(name) for name in ("pipelines", "infra")]
    for logger in loggers:
        logger.addHandler(ear)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(ear)


class _Receiver(logging.Handler):
    """Passes on warnings, and what is worse."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._pid = tell, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging; loader processes, which are forks and have no way to Ray, say it as they can."""
        if os.getpid() == self._pid:
            self._tell(record.getMessage())
        elif logging.lastResort is not None:
            logging.lastResort.handle(record)


def _roll() -> Any:
    """Where ranks report to: a process on this node, as long as the launching one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(HeartbeatMonitor).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1).remote()


def _answer(asked: Any, otherwise: Any) -> Any:
    """What Ray's object holds, or what to take where it does not come: no training stops for want of a report."""
    import ray

    try:
        return ray.get(asked, timeout=_ANSWER_SECONDS)
    except ray.exceptions.RayError as fault:
        log.warning("no answer about the ranks: %s", fault)
        return otherwise


def _explained(fault: Exception) -> str:
    """In its own words; of a GPU's memory, with what helps."""
    if isinstance(fault, torch.OutOfMemoryError):
        first = str(fault).partition(". ")[0]
        return (
            f"{first}: use more --workers; or, at another --out, more --grad-accumulation or a recipe in bfloat16 "
            "(--dry-run predicts the memory)"
        )
    return str(fault)


def _end_before_it_begins(run: TrainRun, roll: Any, world: World, max_starts: int) -> JobError | None:
    """Why it is not to begin, if so, which all ranks find alike.

    It has begun at this clock in vain often enough, nodes do not see the run's place, or it is another command's turn.
    """
    starts, worn, clock = _over_ranks(
        world, _counted(run, roll, world.size, max_starts) if world.rank == 0 else (0,) * 3
    )
    if worn:
        ends = _answer(roll.ends_here.remote(), "unknown")
        where = "a clock that cannot be read" if clock < 0 else f"{clock} images"
        return JobError(f"gave up after {starts} starts at {where}: {ends}")
    blind, anothers = _over_ranks(world, _place_of(run))
    if blind:
        return JobError(f"{blind} of {world.size} ranks do not see {run.out}: --out must be a place that all nodes see")
    if anothers:
        return JobError(f"another command has begun to train at {run.out}: this one has ended, that one goes on")
    return None


def _over_ranks(world: World, numbers: Sequence[int]) -> list[int]:
    """Their sums."""
    sums = torch.tensor(numbers, dtype=torch.float64)
    world.average([sums])
    return [round(float(number) * world.size) for number in sums]


def _counted(run: TrainRun, roll: Any, num_ranks: int, max_starts: int) -> tuple[int, int, int]:
    """Starts before this one at this clock, whether they were enough, and the clock; -1 where it cannot be read."""
    clock = _clock(run)
    starts, faults = _answer(roll.begin.remote(clock, num_ranks), (1, 0))
    return starts - 1, starts > max_starts or faults >= _MAX_STARTS, -1 if clock is None else clock


def _clock(run: TrainRun) -> int | None:
    """Of the newest checkpoint; None where it cannot be read: the start counts, and whoever restores it says why."""
    try:
        return find_newest_clock(run.out)
    except Exception as fault:  # noqa: BLE001 - a store's, of whatever kind
        log.warning("the clock of the run cannot be read: %s", fault)
        return None


def _place_of(run: TrainRun) -> tuple[int, int]:
    """Whether this rank does not see the place of the run, and whether it is another command's turn there."""
    try:
        return 0, is_superseded(run)
    except FileNotFoundError as fault:
        log.warning("%s does not see the place of the run: %s", socket.gethostname(), fault)
        return 1, 0


def _first_fault(fault: Exception) -> str:
    """What the lowest failed rank said."""
    failures: dict[int, Exception] = getattr(fault, "worker_failures", {})
    for rank, cause in sorted(failures.items()):
        return f"rank {rank}: {cause}"
    return str(fault)


def _newest_point(uri: str, progress: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Looks whether the run has left a newer point, and tells it."""
    seen = b""

    def look() -> None:
        nonlocal seen
        if storage.exists(uri) and (data := storage.read_bytes(uri)) != seen:
            seen = data
            progress(json.loads(data))

    return look


class _Every:
    """Does something again and again, so many seconds apart, for the time of a block."""

    def __init__(self, seconds: float, do: Callable[[], object]) -> None:
        self._seconds, self._do = seconds, do
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Does it a last time, but for one who is to stop at once."""
        self._ended.set()
        self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self._try()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._try()

    def _try(self) -> None:
        try:
            self._do()
        except Exception as fault:  # noqa: BLE001 - a store that fails for a while ends no watch
            log.warning("not told this time: %s", fault)
