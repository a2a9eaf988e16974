"""The contract between a paper's learning step and the one training loop: stages and phases as data.

A file of its own because the loop in `pipelines.training` knows every paper only through these four types. An
objective never calls backward, never steps and never averages: it says which scalar trains which networks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

Outputs = dict[str, Tensor]
"""What one run of the generator gives, the batch's own `image` and `mask` among it."""


@dataclass(frozen=True)
class Phase:
    """One optimiser update inside a step: sum of weights[name] * terms(outputs)[name] trains the named networks."""

    name: str
    trains: tuple[str, ...]
    terms: Callable[[Outputs], dict[str, Tensor]]
    weights: Mapping[str, float]
    every: int = 1
    """The phase runs in steps whose number is a multiple of this."""


@dataclass(frozen=True)
class Stage:
    """A period of training on the clock of images seen; the last stage has no end."""

    name: str
    until_images: int | None
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Objective:
    """All networks of a training, how they run on a batch, and the stages that train them."""

    networks: dict[str, nn.Module]
    forward: Callable[[Tensor, Tensor], Outputs]
    """(image N3HW in [0, 1], mask N1HW) -> outputs; run once per step."""
    stages: tuple[Stage, ...]

    def stage_at(self, images_seen: int) -> Stage:
        """The stage whose period holds this clock."""
        return next(s for s in self.stages if s.until_images is None or images_seen < s.until_images)
