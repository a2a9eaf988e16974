"""The contract between a paper's learning step and the training loop: stages and phases as data.

The loop in `pipelines.training` knows every paper only through these types. An objective never calls backward, steps or
averages: it names the scalars and the networks that each of them trains.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

Outputs = dict[str, Tensor]
"""Outputs of one run of the networks, with the batch's `image` and `mask`."""

Terms = dict[str, Tensor]
"""Scalars by name."""

Weights = Mapping[str, Mapping[str, Tensor]]
"""State dicts by the name of their file."""


class Noise(Protocol):
    """Random numbers of a step's samples, which depend on sample number and purpose, not on the rank."""

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers, N x shape."""
        ...

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), N x shape."""
        ...


@dataclass(frozen=True)
class Inputs:
    """Samples of a step, on the training device."""

    image: Tensor
    """N3HW in [0, 1]."""
    mask: Tensor
    """N1HW in {0, 1}, 1 = hole."""
    noise: Noise
    planes: Mapping[str, Tensor] = field(default_factory=dict)
    """Further pictures by name, NCHW in [0, 1]: `image_large`, `segmentation`, `edge`, `sketch`."""

    def to_outputs(self) -> Outputs:
        """Convert to outputs: image and mask, which the terms of a phase need."""
        return {"image": self.image, "mask": self.mask}


Forward = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Phase:
    """One optimizer update inside a step: sum of weights[name] * terms(outputs)[name] trains the named networks.

    A parameter of these networks on which no term depends stays as it is.
    """

    name: str
    trains: tuple[str, ...]
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    every: int = 1
    """Period in steps: the phase runs in steps whose number is a multiple of it."""

    def __post_init__(self) -> None:
        _check_every(self.name, self.every)


def _check_every(name: str, every: int) -> None:
    if every < 1:
        raise ValueError(f"phase {name!r} runs every {every} steps: use 1 or more")


@dataclass(frozen=True)
class BilevelPhase:
    """One update of the networks `trains` so that a step of `inner` lowers another loss: sum of weights * terms.

    theta are the parameters that `inner` trains, theta' = theta - alpha * grad inner(theta). The update follows the
    gradient of the loss at theta' with respect to the parameters of `trains`, on which `inner` depends, by central
    differences (distillation-guided inpainting, Algorithm 1; DARTS, Liu et al., ICLR 2019, Eq. 8). Each of its parts
    runs the networks once.
    """

    name: str
    trains: tuple[str, ...]
    inner: Phase
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    alpha: float
    """Learning rate of the imagined step of `inner`."""
    epsilon: float = 0.01
    """Length of the arm of the central difference, in the norm of all parameters of `inner`."""
    held: tuple[str, ...] = ()
    """Outputs that are constants for `inner` although they change with theta, such as a detached target. On both arms
    they keep their values at theta, as the step does not see them change either."""
    every: int = 1

    def __post_init__(self) -> None:
        _check_every(self.name, self.every)


@dataclass(frozen=True)
class Stage:
    """Period of training on the clock of images seen; the last stage has no end."""

    name: str
    until_images: int | None
    forward: Forward
    """Function that runs once per step, before its phases; bilevel phases run it again."""
    phases: tuple[Phase | BilevelPhase, ...]


@dataclass(frozen=True)
class Objective:
    """Networks of a training and the stages that train them."""

    networks: dict[str, nn.Module]
    """Networks that a phase trains and checkpoints keep; `generator` is the registered one."""
    stages: tuple[Stage, ...]
    teachers: dict[str, nn.Module] = field(default_factory=dict)
    """Networks from files of weights, neither trained nor kept."""

    def find_stage(self, images_seen: int) -> Stage:
        """Find the stage whose period includes this clock."""
        return next(s for s in self.stages if s.until_images is None or images_seen < s.until_images)
