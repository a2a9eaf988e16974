"""How much of a machine a training uses: its arithmetic beside what the device does at best, cores, memory, network.

In: a stage on the meta device; a device and a precision. Out: operations, operations a second, and shares. An operation
is a multiplication or an addition in a matrix product or a convolution; others are few and not counted. Bilevel phases
compute in float32 whatever the precision; the peak does not take account of that.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import psutil
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nets.objective import BilevelPhase, Inputs, Phase, Stage
from pipelines.training.precision import Precision, choose_number_type
from pipelines.training.updates import sum_weighted

GPU_BUSY: Final = "gpu_busy_share"
USAGE: Final = (
    "cores_used",
    "machine_cpu_share",
    "machine_memory_share",
    "machine_received_mb_per_second",
    "machine_sent_mb_per_second",
    GPU_BUSY,
)
_SIDES: Final = {"cpu": 768, "cuda": 8192}
_TRIES: Final = 6


@dataclass(frozen=True)
class DeviceFlops:
    """Operations that a photo costs, and those that the device of this process does at best."""

    photo_operations: Mapping[str, float]
    """By stage."""
    peak: float
    """Operations a second."""

    def compute_utilization(self, stage: str, images_per_second: float) -> float:
        """Share of the device's peak that this process uses at so many photos a second."""
        return self.photo_operations[stage] * images_per_second / self.peak


def measure_peak(device: torch.device, precision: Precision) -> float:
    """Peak in operations a second, measured in a large matrix product: of a GPU, or of the cores of this process."""
    side = _SIDES[device.type]
    square, times = torch.ones(side, side, device=device, dtype=choose_number_type(precision)), []
    for _ in range(_TRIES):
        started = time.perf_counter()
        float((square @ square)[0, 0])  # waits for a GPU
        times.append(time.perf_counter() - started)
    if device.type == "cuda":  # the training reports its own peak of memory
        del square
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * side**3 / min(times)


def count_step_operations(stage: Stage, inputs: Inputs, networks: Mapping[str, nn.Module], parts: int = 1) -> float:
    """Number of operations of a step on these samples, forward and backward; a phase counts by its share of steps.

    The networks run once; where a step comes in parts, once for each phase. In a bilevel phase they run four times: it
    takes the gradient of its objective at one point and that of its inner phase at three (`updates.py`).
    """
    forward = _count_operations(lambda: stage.forward(inputs))
    total = forward if parts == 1 else forward * sum(1 / phase.every for phase in stage.phases)
    count = partial(_count_gradient_operations, stage, inputs, networks)
    for phase in stage.phases:
        if isinstance(phase, BilevelPhase):
            operations = 4 * forward + count(phase, (*phase.trains, *phase.inner.trains))
            operations += count(phase.inner, phase.inner.trains) + 2 * count(phase.inner, phase.trains)
        else:
            operations = count(phase, phase.trains)
        total += operations / phase.every
    return total


def _count_gradient_operations(
    stage: Stage,
    inputs: Inputs,
    networks: Mapping[str, nn.Module],
    phase: Phase | BilevelPhase,
    trained: tuple[str, ...],
) -> float:
    """Number of operations of a phase's terms and of their gradients for the networks `trained`."""
    outputs = stage.forward(inputs)
    parameters = [p for name in trained for p in networks[name].parameters()]
    return _count_operations(
        lambda: torch.autograd.grad(sum_weighted(phase.terms(outputs), phase.weights), parameters, allow_unused=True)
    )


def _count_operations(work: Callable[[], object]) -> float:
    counter = Counter()
    with counter:
        work()
    return counter.total


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what PyTorch knows to count. Its own counter does not take gradients of chosen tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=result) if count else 0.0
        return result


class Usage:
    """Use of cores, memory, network and GPU: by this process without its loader workers, and by its whole machine."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        psutil.cpu_percent()  # shares are those since the last call
        self._reset()

    def _reset(self) -> None:
        self._began, self._worked = time.monotonic(), time.process_time()
        self._received, self._sent = _count_network_bytes()

    def measure(self) -> dict[str, float]:
        """Values by the names of USAGE since the last call; the GPU's busy share only where the device is one.

        All ranks have the same names: the share is NaN where the GPU does not report it.
        """
        seconds, worked = time.monotonic() - self._began, time.process_time() - self._worked
        received, sent = self._received, self._sent
        self._reset()
        used = {
            "cores_used": worked / seconds,
            "machine_cpu_share": psutil.cpu_percent() / 100,
            "machine_memory_share": psutil.virtual_memory().percent / 100,
            "machine_received_mb_per_second": (self._received - received) / seconds / 1e6,
            "machine_sent_mb_per_second": (self._sent - sent) / seconds / 1e6,
        }
        return used | ({GPU_BUSY: _measure_gpu_busy(self._device)} if self._device.type == "cuda" else {})


def _count_network_bytes() -> tuple[int, int]:
    """Bytes that the machine has received and sent so far; 0 where it has no network."""
    counters = psutil.net_io_counters()
    return (counters.bytes_recv, counters.bytes_sent) if counters else (0, 0)


def _measure_gpu_busy(device: torch.device) -> float:
    """Share of its last moments in which the GPU had work; NaN without NVML, whose Python side is another package."""
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # noqa: BLE001 - NVML has errors of its own, and no measurement ends a training
        return math.nan
