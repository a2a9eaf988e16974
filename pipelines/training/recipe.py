"""A training as data: everything that decides what is learned, apart from the datasets."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from nets import OBJECTIVES, describe_network
from nets.filling import LOCAL, Procedure
from pipelines.records import UsageError
from pipelines.stream.config import StreamConfig
from pipelines.training.precision import PRECISIONS, Precision

_COUNTS: Final = (
    "batch_size",
    "images",
    "checkpoint_images",
    "metric_images",
    "watched_photos",
    "early_stop_images",
    "average_images",
    "grad_accumulation",
)


@dataclass(frozen=True)
class AdamConfig:
    """An Adam optimizer of one network."""

    learning_rate: float
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0
    """Of Adam's own kind: added to the gradient."""
    clip_norm: float | None = None
    """Norm to which the network's gradients are clipped."""
    unit_norm: bool = False
    """Whether the network's gradients are scaled to norm 1. Those of meta-networks are so small, and the first of them
    so large, that Adam would follow its epsilon and its weight decay, or nothing but its memory of the first."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"an optimizer's {name} is {value}: use a finite number of at least 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"an optimizer's betas are {self.betas}: use numbers of at least 0 and less than 1")


@dataclass(frozen=True)
class TrainRecipe:
    """A complete, named training. The clock is images seen: photos over all ranks, without their masked copies."""

    name: str
    objective: Any
    """The configuration of an objective in OBJECTIVES."""
    stream: StreamConfig
    optimizers: dict[str, AdamConfig]
    """By network."""
    batch_size: int
    """Photos in a step, over all ranks."""
    images: int
    """Clock at which the training ends."""
    constant_images: int
    """Learning rates are constant up to this clock, then fall linearly to zero at `images`."""
    checkpoint_images: int
    """Clock between two checkpoints."""
    seed: int = 0
    metric_images: int = field(default=1024)
    """Clock between two points of a curve."""
    lr_milestones: tuple[tuple[int, float], ...] = ()
    """From each of these clocks on, all learning rates are multiplied by its factor."""
    watched_photos: int = 16
    """Held-out photos that are filled at every checkpoint, rounded up to whole chunks of 16."""
    early_stop_images: int | None = None
    """The training ends after so many photos without a better checkpoint; the best is kept."""
    average_images: int | None = None
    """The weights that are validated and registered are averages over about so many photos, not the newest."""
    grad_accumulation: int = 1
    """Parts in which a rank's share of a step goes through the networks: less memory, more time. A phase then sees
    networks as the phase before has left them, and terms that compare samples see those of a part."""
    precision: Precision = "float32"
    compiled: bool = False
    """Whether the generator is compiled at its first step, which takes minutes and pays off on GPUs."""
    deterministic: bool = False
    """Whether GPUs too give the same weights bit for bit each time. Operators without such a kernel raise."""
    procedure: Procedure = LOCAL
    """How the network fills photos of other sizes than its own. It stands in every checkpoint and is no part of a run's
    identity, as it changes no weight."""

    def __post_init__(self) -> None:
        if type(self.objective) not in OBJECTIVES:
            known = ", ".join(kind.__name__ for kind in OBJECTIVES)
            raise UsageError(f"recipe {self.name}: objective is a {type(self.objective).__name__}: use one of {known}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"recipe {self.name}: precision is {self.precision!r}: use one of {', '.join(PRECISIONS)}")
        self._check_numbers()
        if self.checkpoint_images % self.batch_size or self.metric_images % self.batch_size:
            raise UsageError(
                f"recipe {self.name}: checkpoint_images and metric_images must be multiples of the batch size "
                f"{self.batch_size}"
            )

    def _check_numbers(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"recipe {self.name}: {name} is {value!r}: use a whole number of at least 1")
        if not 0 <= self.constant_images <= self.images:
            raise UsageError(
                f"recipe {self.name}: constant_images is {self.constant_images}: use 0 to {self.images}, its images"
            )
        for clock, factor in self.lr_milestones:
            if clock < 0 or not 0 <= factor < math.inf:
                raise UsageError(
                    f"recipe {self.name}: a milestone is {(clock, factor)}: use a clock and a factor of at least 0"
                )

    def compute_learning_rate_factor(self, images_seen: int) -> float:
        """1 during the constant part, then linear to 0 at the end; times the factors of the milestones passed."""
        factor = math.prod(f for clock, f in self.lr_milestones if images_seen >= clock)
        if images_seen <= self.constant_images:
            return factor
        return factor * max(0.0, (self.images - images_seen) / (self.images - self.constant_images))

    def as_json(self) -> dict[str, Any]:
        """The recipe as JSON, by which a run is identified."""
        fields = asdict(self)
        del fields["procedure"]
        fields["objective"] = {"kind": type(self.objective).__name__, **asdict(self.objective)}
        return dict(_replace_tuples(fields))

    @property
    def network(self) -> dict[str, Any]:
        """The description of the generator."""
        return describe_network(self.objective.network)


def _replace_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_tuples(v) for name, v in value.items()}
    return [_replace_tuples(v) for v in value] if isinstance(value, (tuple, list)) else value
