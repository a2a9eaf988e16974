"""The Ray Train entry: places the ranks of a run, starts them again when one is lost, and waits for the end.

In: a `TrainRun` and a number of workers. Out: the URI of the last checkpoint. Checkpoints are ours, so Ray's storage is
a scratch folder of each attempt and its `report` carries metrics only.
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Literal, cast

import pyarrow.fs
import torch

from infra import storage
from infra.cluster import connected, num_gpus
from infra.world import World, current_world
from pipelines.checkpoints import newest_clock
from pipelines.records import Failed
from pipelines.training.commits import PROGRESS_FILE
from pipelines.training.pulse import Roll
from pipelines.training.rank import run_rank
from pipelines.training.run import TrainRun
from pipelines.training.updates import NotFinite

_MAX_STARTS: Final = 3
"""So often a training begins at one checkpoint. A long one that gets further may lose workers many times."""
_MAX_SIZES: Final = 20
"""The same where the number of workers may change, which is a new start as well."""
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

    `cuda`: a GPU for each rank as well, for which a cluster may have to grow; `auto`: where there are as many now, else
    CPUs alone. `warn` hears within a minute of a rank that hangs, by its name and place in the code. With `min_workers`
    the training goes on with as few where nodes are lost, and takes more again when there are some.
    """
    scratch = storage.join(run.out, ".ray")
    with connected(num_workers * _num_cores(run)):
        import ray

        roll = _roll()
        on_gpus = device == "cuda" or (device == "auto" and num_gpus() >= num_workers)
        resources = {"CPU": _num_cores(run), "GPU": int(on_gpus)}

        def name_hung() -> None:
            for line in _answer(roll.hung.remote(), []):
                warn(line)

        newest = _newest_point(storage.join(run.out, PROGRESS_FILE), progress)
        try:
            with _Every(1.0, newest), _Every(5.0, name_hung):
                return _fit(run, (min_workers or num_workers, num_workers), resources, scratch, roll)
        finally:
            ray.kill(roll)
            storage.remove(scratch)


def _fit(run: TrainRun, workers: tuple[int, int], resources: dict[str, int], scratch: str, roll: Any) -> str:
    from ray import train  # not at the head of the file: `connected` must come before Ray is imported
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
        raise Failed(_first_fault(fault)) from None
    if isinstance(end, Failed):
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
    return 1 + run.num_loaders


def _rank(config: dict[str, Any]) -> str | Failed:
    """A fault that all ranks see alike, and would see again, is a value: Ray Train tries again after exceptions."""
    from ray.train import report
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    run, roll, world = config["run"], config["roll"], current_world(device)
    if _begins_again(run, roll, world, config["max_starts"]):
        fault = _answer(roll.last_fault.remote(), "unknown")
        return Failed(f"gave up after {config['max_starts']} starts at {newest_clock(run.out)} images: {fault}")
    try:
        return run_rank(run, world, report, roll.note.remote)
    except NotFinite as fault:
        return fault
    except Exception as fault:
        _answer(roll.blame.remote(f"rank {world.rank}: {_explained(fault)}"), None)
        raise


def _roll() -> Any:
    """Where ranks report to: a process on this node, as long as the launching one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Roll).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1).remote()


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
        return f"{first}: give more --parts or --workers, or take a recipe in bfloat16 (--dry-run foretells the memory)"
    return str(fault)


def _begins_again(run: TrainRun, roll: Any, world: World, max_starts: int) -> bool:
    """Whether it has begun too often at this clock; rank 0 counts, all ranks know."""
    starts = torch.zeros(1, dtype=torch.float64)
    if world.rank == 0:
        starts += _answer(roll.begin.remote(newest_clock(run.out)), 1)
    world.average([starts])
    return round(float(starts) * world.size) > max_starts


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

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._do()
            except Exception as fault:  # noqa: BLE001 - a store that fails for a while ends no watch
                log.warning("not told this time: %s", fault)
