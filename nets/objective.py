"""The contract between a paper's learning step and the one training loop: stages and phases as data.

A file of its own because the loop in `pipelines.training` knows every paper only through these types. An objective
never calls backward, never steps and never averages: it says which scalar trains which networks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

Outputs = dict[str, Tensor]
"""What one run of the networks gives, the batch's own `image` and `mask` among it."""

Terms = dict[str, Tensor]
"""Scalars by name."""

Weights = Mapping[str, Mapping[str, Tensor]]
"""State dicts by the name of their file."""


class Noise(Protocol):
    """Random numbers of a step's samples: a function of each sample's number and the purpose, the same on any rank."""

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers, N x shape."""
        ...

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), N x shape."""
        ...


@dataclass(frozen=True)
class Inputs:
    """What a step's samples are, on the device that trains."""

    image: Tensor
    """N3HW in [0, 1]."""
    mask: Tensor
    """N1HW in {0, 1}, 1 = hole."""
    noise: Noise
    planes: Mapping[str, Tensor] = field(default_factory=dict)
    """Further pictures by name, NCHW in [0, 1]: `image_large`, `segmentation`, `edge`, `sketch`."""

    def to_outputs(self) -> Outputs:
        """Image and mask, as the terms of a phase want them beside what the networks made."""
        return {"image": self.image, "mask": self.mask}


Forward = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Phase:
    """One optimizer update inside a step: sum of weights[name] * terms(outputs)[name] trains the named networks.

    A parameter of these networks on which no term depends is left alone.
    """

    name: str
    trains: tuple[str, ...]
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    every: int = 1
    """The phase runs in steps whose number is a multiple of this."""

    def __post_init__(self) -> None:
        _refuse_never(self.name, self.every)


def _refuse_never(name: str, every: int) -> None:
    if every < 1:
        raise ValueError(f"phase {name!r} runs every {every} steps: take 1 or more")


@dataclass(frozen=True)
class BilevelPhase:
    """One update of the networks `trains` so that a step of `inner` serves another aim: sum of weights * terms.

    theta: what `inner` trains. theta' = theta - alpha * grad inner(theta). The update: by the gradient of the aim at
    theta' with respect to the parameters of `trains`, on which `inner` depends, by central differences (distillation-
    guided inpainting, Algorithm 1; DARTS, Liu et al., ICLR 2019, Eq. 8). Each part of it runs the networks anew.
    """

    name: str
    trains: tuple[str, ...]
    inner: Phase
    terms: Callable[[Outputs], Terms]
    weights: Mapping[str, float]
    alpha: float
    """Learning rate of the step of `inner` that is imagined."""
    epsilon: float = 0.01
    """Length of the difference's arm, in the norm of all parameters of `inner`."""
    held: tuple[str, ...] = ()
    """Outputs that `inner` takes for constants though they change with theta, such as a detached target. On both arms
    they are held at theta: the step does not see them change either."""
    every: int = 1

    def __post_init__(self) -> None:
        _refuse_never(self.name, self.every)


@dataclass(frozen=True)
class Stage:
    """A period of training on the clock of images seen; the last stage has no end."""

    name: str
    until_images: int | None
    forward: Forward
    """Runs once per step, before its phases; a bilevel phase runs it as often as its formula says."""
    phases: tuple[Phase | BilevelPhase, ...]


@dataclass(frozen=True)
class Objective:
    """All networks of a training and the stages that train them."""

    networks: dict[str, nn.Module]
    """Trained in some phase and kept in checkpoints; `generator` is the one that is registered."""
    stages: tuple[Stage, ...]
    teachers: dict[str, nn.Module] = field(default_factory=dict)
    """Never trained and not kept: made from files of weights."""

    def find_stage(self, images_seen: int) -> Stage:
        """The stage whose period holds this clock."""
        return next(s for s in self.stages if s.until_images is None or images_seen < s.until_images)
