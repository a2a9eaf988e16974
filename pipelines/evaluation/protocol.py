"""Protocol of an evaluation: the model's inputs besides photo and mask, and the number of fills.

In: the pairs of a chunk. Out: further inputs, as a function of the pairs' keys and mask specs. The protocol is part of
the passport: scores by different protocols are not compared.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from nets.filling import ProcedureName
from pipelines.evaluation.metrics import MIN_SIDE_PX
from pipelines.evaluation.models import Model, NoiseKeys
from pipelines.evaluation.pairs import EvalSize, Pairs
from pipelines.noise import SampleNoise
from pipelines.records import UsageError
from pipelines.stream.sketching import draw_sketch

_MAX_FILLS: Final = 100
_MAX_SIDE_PX: Final = 8192


@dataclass(frozen=True)
class EvalProtocol:
    """Settings of an evaluation; photo, mask and one fill by default."""

    strokes: bool = False
    """Whether a sketch-guided network gets the photo's own edges in the hole, as a user might draw (MHTMA, IV-F)."""
    num_fills: int = 1
    """Number of fills of a pair; the one of the highest PSNR in the hole counts, for all metrics (SPN, Table 2)."""

    size: EvalSize | None = None
    """Side of the square photos in px, or `own` for their own size; if not given, the size of their masks."""
    procedure: ProcedureName | None = None
    """Way in which the network fills photos of another size than its own; the model's own if not given."""
    segmentation: bool | None = None
    """Whether the network gets the dataset's segmentation maps; follows from the network, not a user's choice."""

    def __post_init__(self) -> None:
        if isinstance(self.size, int) and not MIN_SIDE_PX <= self.size <= _MAX_SIDE_PX:
            raise UsageError(f"size is {self.size}: give own, or {MIN_SIDE_PX} to {_MAX_SIDE_PX} px")
        if not 1 <= self.num_fills <= _MAX_FILLS:
            raise UsageError(f"num_fills is {self.num_fills}: it must be from 1 to {_MAX_FILLS}")

    def as_json(self) -> dict[str, Any]:
        """Fields for a passport; optional ones only where given, as older passports do not have them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def fit(self, model: Model) -> Self:
        """The protocol, with maps for a model that takes them.

        Raises UsageError where the model does not support it.
        """
        name = model.identity["model"]
        old = ". If the version takes only photo and mask because it is old, register its checkpoint again"
        hint = old if name.startswith("models:/") and model.procedure is None else ""
        if self.strokes and "sketch" not in model.takes:
            raise UsageError(f"{name} takes no sketch: evaluate it without strokes{hint}")
        if self.num_fills > 1 and "noise" not in model.takes:
            raise UsageError(f"{name} always gives the same fill: evaluate it with one{hint}")
        return replace(self, segmentation=True) if "segmentation" in model.takes else self

    def make_guides(self, pairs: Pairs) -> dict[str, Tensor]:
        """Inputs of the model besides photos and masks, by name."""
        return ({"sketch": sketch_photos(pairs.images)} if self.strokes else {}) | make_map_guides(pairs)

    def make_noise(self, pairs: Pairs, number: int) -> NoiseKeys | None:
        """Keys of the noise of the pairs' fill of this number, by key, mask spec and number; None for one fill."""
        if self.num_fills == 1:
            return None
        return SampleNoise(0, [(*pair, number) for pair in zip(pairs.keys, pairs.specs, strict=True)]).keys("fill")


def make_map_guides(pairs: Pairs) -> dict[str, Tensor]:
    """Segmentation maps of the pairs, float N3HW in [0, 1], by the input's name; empty where there are none."""
    if pairs.maps is None:
        return {}
    return {"segmentation": torch.from_numpy(pairs.maps).permute(0, 3, 1, 2).float() / 255}


def sketch_photos(images: np.ndarray) -> Tensor:
    """Photos uint8 NSS3 -> sketches of their edges, float N1SS in {0, 1}."""
    drawn = np.stack([draw_sketch(image) for image in images])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
