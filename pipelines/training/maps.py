"""What networks make on the way to a fill, for people: SPN's priors, DGI's weights of fusion, MHTMA's temperatures.

In: the outputs of a generator, found by their names. Out: columns of pictures, and numbers for curves.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nets.objective import Outputs
from pipelines.pictures import color_clusters

Pictures = NDArray[np.uint8]


def maps_of(outputs: Outputs, size_px: int) -> list[tuple[str, Pictures]]:
    """Columns of (title, uint8 NxSxSx3), pixels of a map as squares; none for networks that have no such maps."""
    return [
        (name, np.stack([_enlarged(draw(of), size_px) for of in outputs[name].float().cpu().numpy()]))
        for name in sorted(outputs)
        for kind, draw in _DRAWN.items()
        if name.startswith(kind)
    ]


def draw_sampled_priors(samples: Sequence[Outputs], size_px: int) -> list[tuple[str, Pictures]]:
    """Columns of (title, uint8 NxSxSx3): the finest prior and the fill of each sample (SPN, Fig. 11)."""
    columns = []
    for number, outputs in enumerate(samples, start=1):
        finest = min(name for name in outputs if name.startswith("prior_"))
        priors = [_enlarged(color_clusters(of), size_px) for of in outputs[finest].float().cpu().numpy()]
        fills = outputs["inpainted"].clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        columns += [(f"{finest}, {number}", np.stack(priors)), (f"fill {number}", fills)]
    return columns


def average_temperatures(outputs: Outputs) -> Iterator[tuple[str, float]]:
    """The mean temperature of each head of MHTMA's attention (Eq. 13)."""
    temperatures: Tensor | None = outputs.get("temperatures")  # N x heads
    if temperatures is not None:
        means = temperatures.mean(dim=0).tolist()
        yield from ((f"val_temperature_{head}", mean) for head, mean in enumerate(means, start=1))


def _grey(weights: NDArray[np.float32]) -> Pictures:
    """1xHxW in [0, 1] -> HxWx3: white where attention is taken, black where the convolution is (Eq. 10)."""
    levels = np.rint(weights[0].clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


_DRAWN: Final[dict[str, Callable[[NDArray[np.float32]], Pictures]]] = {"prior_": color_clusters, "fusion_": _grey}
"""By what the names of outputs begin with."""


def _enlarged(picture: Pictures, size_px: int) -> Pictures:
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_NEAREST), np.uint8)
