"""The Ray Train entry: places the ranks of a run, starts them again when one is lost, and waits for the end.

In: a `TrainRun` and a number of workers. Out: the URI of the last checkpoint. Checkpoints are ours, so Ray's storage is
a scratch folder of each attempt and its `report` carries metrics only.
"""

import secrets
import threading
from collections.abc import Callable
from typing import Any, Final, Literal, cast

import pyarrow.fs
import torch

from infra import storage
from infra.cluster import connected, is_ours, num_gpus
from infra.world import current_world
from pipelines.records import Failed, Refused
from pipelines.training.run import PROGRESS_FILE, TrainRun, run_rank
from pipelines.training.updates import NotFinite

_MAX_FAILURES: Final = 2
_COLLECTIVE_TIMEOUT_SECONDS: Final = 600

Device = Literal["auto", "cpu", "cuda"]


def launch(run: TrainRun, num_workers: int, progress: Callable[[dict[str, Any]], None], device: Device = "auto") -> str:
    """Runs the training on `num_workers` ranks, a core for each process; `progress` gets the newest point.

    `cuda`: a GPU for each rank as well, and Refused where a cluster of our own has too few; `auto`: where there are as
    many, else CPUs alone.
    """
    scratch = storage.join(run.out, ".ray")
    with connected(num_workers * _num_cores(run)), _Watch(storage.join(run.out, PROGRESS_FILE), progress):
        resources = {"CPU": _num_cores(run), "GPU": int(_on_gpus(device, num_workers))}
        try:
            return _fit(run, num_workers, resources, scratch)
        finally:
            storage.remove(scratch)


def _on_gpus(device: Device, num_workers: int) -> bool:
    found = num_gpus()
    if device == "cuda" and found < num_workers and is_ours():  # another cluster may grow on demand
        raise Refused(f"--device is cuda: {num_workers} workers need a GPU each, this machine has {found}")
    return device == "cuda" or (device == "auto" and found >= num_workers)


def _fit(run: TrainRun, num_workers: int, resources: dict[str, int], scratch: str) -> str:
    from ray import train  # not at the head of the file: `connected` must come before Ray is imported
    from ray.train.torch import TorchConfig, TorchTrainer

    fs, path = storage.locate(scratch)
    trainer: Any = TorchTrainer(
        cast("Callable[[dict[Any, Any]], None]", _rank),  # Ray's type forgets that the loop's value comes back
        train_loop_config={"run": run},
        scaling_config=train.ScalingConfig(
            num_workers=num_workers, use_gpu=resources["GPU"] > 0, resources_per_worker=resources
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
        end = trainer.fit().return_value
    except train.TrainingFailedError as fault:
        raise Failed(_first_fault(fault)) from None
    if isinstance(end, NotFinite):
        raise end
    return str(end)


def _num_cores(run: TrainRun) -> int:
    """Of a rank: its own and one for each of its loader processes."""
    return 1 + run.num_loaders


def _rank(config: dict[str, Any]) -> str | NotFinite:
    """A fault that all ranks see alike, and would see again, is a value: Ray Train tries again after exceptions."""
    from ray.train import report
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        return run_rank(config["run"], current_world(device), report)
    except NotFinite as fault:
        return fault


def _first_fault(fault: Exception) -> str:
    """What the lowest failed rank said."""
    failures: dict[int, Exception] = getattr(fault, "worker_failures", {})
    for rank, cause in sorted(failures.items()):
        return f"rank {rank}: {cause}"
    return str(fault)


class _Watch:
    """Looks once a second whether the run has left a newer point, for the time of a block."""

    def __init__(self, uri: str, progress: Callable[[dict[str, Any]], None]) -> None:
        self._uri, self._progress = uri, progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        import json

        seen = b""
        while not self._ended.wait(1.0):
            if storage.exists(self._uri) and (data := storage.read_bytes(self._uri)) != seen:
                seen = data
                self._progress(json.loads(data))
