"""Time and memory of the full models, a table row each, on this machine's device. `python -m tests.benchmarks.models`.

A forward run is one 256x256 pair; a step is all phases of the training's last stage on one photo with one mask, without
the optimisers. A bilevel phase is left out: in one of `every` steps it runs the networks four times more. Each model
has a process of its own, so that the peak of memory is its own.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from jobs.recipes import RECIPES
from nets import build_objective
from nets.objective import BilevelPhase, Inputs, Objective, Stage
from pipelines.noise import SampleNoise
from pipelines.training.updates import weighted
from tests.nets.configs import WEIGHTS

SIZE_PX = 256
MODELS = (
    "deepgin-celebahq",
    "spn-paris",
    "spn-probabilistic-celebahq",
    "spl-paris",
    "mhtma-celebahq",
    "distill-places2",
)
"""A recipe of each full model: those on other datasets train the same one."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """The quickest of some runs, after one that does not count."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def peak_mb() -> float:
    """The most memory that this process, or the device, has held."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def learn(objective: Objective, stage: Stage, inputs: Inputs) -> None:
    """Gradients of the ordinary phases of a stage."""
    outputs = stage.forward(inputs)
    for phase in stage.phases:
        if not isinstance(phase, BilevelPhase):
            parameters = [p for name in phase.trains for p in objective.networks[name].parameters()]
            torch.autograd.grad(weighted(phase.terms(outputs), phase.weights), parameters, allow_unused=True)


def row(name: str) -> str:
    """The table row of a recipe."""
    torch.set_num_threads(torch.get_num_threads() if DEVICE == "cuda" else 1)
    config = RECIPES[name]().objective
    objective = build_objective(config, WEIGHTS)
    for network in (*objective.networks.values(), *objective.teachers.values()):
        network.to(DEVICE)
    image = torch.rand(1, 3, SIZE_PX, SIZE_PX, device=DEVICE)
    mask = torch.zeros(1, 1, SIZE_PX, SIZE_PX, device=DEVICE)
    mask[..., 64:192, 64:192] = 1
    generator = objective.networks["generator"]
    with torch.inference_mode():
        before, forward = peak_mb(), seconds(lambda: generator(image, mask))
        forward_mb = peak_mb() - before
    inputs = Inputs(image, mask, SampleNoise(0, [(0, 0)], DEVICE))
    step = seconds(lambda: learn(objective, objective.stages[-1], inputs), runs=1)
    count = sum(p.numel() for p in generator.parameters())
    figures = f"{count:,} | {forward:.2f} s | {forward_mb:.0f} MB | {step:.2f} s | {peak_mb() - before:.0f} MB"
    return f"| {name} | {figures} |"


def main() -> None:
    """All full models, or the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", nargs="?")
    chosen = parser.parse_args().recipe
    if chosen is not None:
        print(row(chosen))
        return
    print(
        f"| recipe ({DEVICE}) | generator | forward | its peak | step | its peak |\n|---|--:|--:|--:|--:|--:|",
        flush=True,
    )
    for name in MODELS:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.models", name], check=True)


if __name__ == "__main__":
    main()
