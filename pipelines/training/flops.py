"""How much of a machine a training uses: the arithmetic of its steps beside what the device does at best.

In: a stage on the meta device; a device and a precision. Out: operations, and operations a second. An operation is a
multiplication or an addition in a matrix product or a convolution; others are few and not counted. That bilevel phases
compute in float32 whatever the precision is not looked at.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nets.objective import BilevelPhase, Inputs, Phase, Stage
from pipelines.training.precision import Precision, number_type
from pipelines.training.updates import weighted

_SIDES: Final = {"cpu": 768, "cuda": 8192}
_TRIES: Final = 6


@dataclass(frozen=True)
class Limit:
    """What a photo costs and what the device of this process could do."""

    photo_operations: Mapping[str, float]
    """By stage."""
    peak: float
    """Operations a second."""

    def share(self, stage: str, images_per_second: float) -> float:
        """Of the device's best, at so many photos a second of this process."""
        return self.photo_operations[stage] * images_per_second / self.peak


def measure_peak(device: torch.device, precision: Precision) -> float:
    """Operations a second in a large matrix product: of a GPU, or of as many cores as this process uses; measured."""
    side = _SIDES[device.type]
    square, times = torch.ones(side, side, device=device, dtype=number_type(precision)), []
    for _ in range(_TRIES):
        started = time.perf_counter()
        float((square @ square)[0, 0])  # waits for a GPU
        times.append(time.perf_counter() - started)
    if device.type == "cuda":  # as if nothing had been: what it holds at most is told elsewhere
        del square
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * side**3 / min(times)


def count_step_operations(stage: Stage, inputs: Inputs, networks: Mapping[str, nn.Module], parts: int = 1) -> float:
    """Of one step on these samples, forward and backward; a phase that has not always its turn counts by its part.

    The networks run once, but for each phase where a step comes in parts, and four times in a bilevel phase, which
    takes the gradient of its aim at one place and that of its inner phase at three (`updates.py`).
    """
    run = _counted(lambda: stage.forward(inputs))
    total = run if parts == 1 else run * sum(1 / phase.every for phase in stage.phases)
    gradients = partial(_gradients, stage, inputs, networks)
    for phase in stage.phases:
        if isinstance(phase, BilevelPhase):
            learning = 4 * run + gradients(phase, (*phase.trains, *phase.inner.trains))
            learning += gradients(phase.inner, phase.inner.trains) + 2 * gradients(phase.inner, phase.trains)
        else:
            learning = gradients(phase, phase.trains)
        total += learning / phase.every
    return total


def _gradients(
    stage: Stage,
    inputs: Inputs,
    networks: Mapping[str, nn.Module],
    phase: Phase | BilevelPhase,
    of: tuple[str, ...],
) -> float:
    """Operations of a phase's terms and their gradients with respect to these networks."""
    outputs = stage.forward(inputs)
    parameters = [p for name in of for p in networks[name].parameters()]
    return _counted(
        lambda: torch.autograd.grad(weighted(phase.terms(outputs), phase.weights), parameters, allow_unused=True)
    )


def _counted(work: Callable[[], object]) -> float:
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
        made = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=made) if count else 0.0
        return made
