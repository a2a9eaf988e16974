"""How much of a machine a training uses: the arithmetic of its steps beside what the device does at best.

In: a stage on the meta device; a device and a precision. Out: operations, and operations a second. An operation is a
multiplication or an addition in a matrix product or a convolution; others are few and not counted.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nets.objective import BilevelPhase, Inputs, Outputs, Phase, Stage
from pipelines.training.precision import Precision, computing
from pipelines.training.updates import weighted

_SIDES: Final = {"cpu": 768, "cuda": 8192}
_TRIES: Final = 6
_INNER_RUNS: Final = 3
"""A bilevel step takes the gradients of its inner phase at three places, and those of its aim at one."""


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


def peak_of(device: torch.device, precision: Precision) -> float:
    """Operations a second in a large matrix product: of a GPU, or of as many cores as this process uses; measured."""
    side = _SIDES[device.type]
    square, times = torch.ones(side, side, device=device), []
    for _ in range(_TRIES):
        started = time.perf_counter()
        with computing(precision, device):
            product = square @ square
        float(product[0, 0])  # waits for a GPU
        times.append(time.perf_counter() - started)
    return 2 * side**3 / min(times)


def step_operations(stage: Stage, inputs: Inputs, networks: Mapping[str, nn.Module]) -> float:
    """Of one step on these samples, forward and backward; a phase that has not always its turn counts by its part."""
    total = _counted(lambda: stage.forward(inputs))
    for phase in stage.phases:
        if isinstance(phase, BilevelPhase):
            runs = [_counted(lambda: stage.forward(inputs)) * (1 + _INNER_RUNS)]
            runs += [_gradients(phase, stage.forward(inputs), networks)]
            runs += [_gradients(phase.inner, stage.forward(inputs), networks) * _INNER_RUNS]
            total += sum(runs) / phase.every
        else:
            total += _gradients(phase, stage.forward(inputs), networks) / phase.every
    return total


def _gradients(phase: Phase | BilevelPhase, outputs: Outputs, networks: Mapping[str, nn.Module]) -> float:
    """Operations of a phase's terms and their gradients."""
    names = (*phase.trains, *phase.inner.trains) if isinstance(phase, BilevelPhase) else phase.trains
    parameters = [p for name in names for p in networks[name].parameters()]
    return _counted(
        lambda: torch.autograd.grad(weighted(phase.terms(outputs), phase.weights), parameters, allow_unused=True)
    )


def _counted(work: Callable[[], object]) -> float:
    counter = _Counter()
    with counter:
        work()
    return counter.total


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what PyTorch knows to count. Its own counter does not take gradients of chosen tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=made) if count else 0.0
        return made
