"""How a model is asked for fills: what it is given beside photo and mask, and how often it may try.

In: the pairs of a chunk. Out: what the model takes beside them, as a function of who they are. A part of the passport:
scores of models that were asked otherwise are not compared.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

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
    """What is asked of a model; a photo, a mask and one fill if nothing is given."""

    strokes: bool = False
    """Give a sketch-guided network the photo's own edges in the hole, as a user might draw them (MHTMA, IV-F)."""
    num_fills: int = 1
    """Of so many fills of a pair the one of the highest PSNR in the hole counts, for all metrics (SPN, Table 2)."""

    size: EvalSize | None = None
    """Photos come as squares of this side in px, or `own` as they are; if not given, at the size of their masks."""
    procedure: ProcedureName | None = None
    """How the network fills photos of another size than its own; the model's own way if not given."""

    def __post_init__(self) -> None:
        if isinstance(self.size, int) and not MIN_SIDE_PX <= self.size <= _MAX_SIDE_PX:
            raise UsageError(f"size is {self.size}: give own, or {MIN_SIDE_PX} to {_MAX_SIDE_PX} px")
        if not 1 <= self.num_fills <= _MAX_FILLS:
            raise UsageError(f"num_fills is {self.num_fills}: it must be from 1 to {_MAX_FILLS}")

    def as_json(self) -> dict[str, Any]:
        """For a passport: size and procedure only where they are given, as older passports have neither."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def refuse_unfit_model(self, model: Model) -> None:
        """Raises UsageError where the model cannot be asked so."""
        name = model.identity["model"]
        old = "; if it was registered before versions took more than photo and mask, register the checkpoint again"
        hint = old if name.startswith("models:/") and model.procedure is None else ""
        if self.strokes and "sketch" not in model.takes:
            raise UsageError(f"{name} takes no sketch: evaluate it without strokes{hint}")
        if self.num_fills > 1 and "noise" not in model.takes:
            raise UsageError(f"{name} always gives the same fill: evaluate it with one{hint}")

    def beside(self, pairs: Pairs) -> dict[str, Tensor]:
        """What the model is given beside the pairs."""
        return {"sketch": sketch_photos(pairs.images)} if self.strokes else {}

    def noise(self, pairs: Pairs, number: int) -> NoiseKeys | None:
        """Keys of the noise of the pairs' fill of this number, by key, mask recipe and number; none for one fill."""
        if self.num_fills == 1:
            return None
        return SampleNoise(0, [(*pair, number) for pair in zip(pairs.keys, pairs.recipes, strict=True)]).keys("fill")


def sketch_photos(images: np.ndarray) -> Tensor:
    """Photos uint8 NSS3 -> sketches of their edges, float N1SS in {0, 1}."""
    drawn = np.stack([draw_sketch(image) for image in images])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
