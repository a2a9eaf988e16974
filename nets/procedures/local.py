"""The local procedure: windows around the holes go through the network, and the rest of the photo is not touched.

First version, one window around all holes: to be replaced.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from nets.procedures.network import NetworkInput, Noise, inpaint
from nets.procedures.resize import resize, resize_strokes


def fill_local(
    network: nn.Module,
    image: Tensor,
    mask: Tensor,
    size_px: int,
    ensemble: bool,
    beside: Mapping[str, Tensor],
    noise: "Noise | None",
) -> Tensor:
    """Image 3HW, mask 1HW and planes CHW beside them -> 3HW."""
    rows, columns = mask[0].any(1).nonzero()[:, 0], mask[0].any(0).nonzero()[:, 0]
    if not len(rows):
        return image
    center = int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2
    side = max(size_px, 2 * int(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1))
    window = tuple(
        slice(max(0, min(c - side // 2, n - side)), max(0, min(c - side // 2, n - side)) + min(side, n))
        for c, n in zip(center, image.shape[1:], strict=True)
    )
    part, hole = image[:, *window], mask[:, *window]
    size = (size_px, size_px)
    holes = resize(hole, size).ne(0).float()[None]
    planes = {name: resize_strokes(plane[:, *window], size)[None] for name, plane in beside.items()}
    small = resize(part * (1 - hole) + hole, size)[None]
    if noise is not None:
        planes["noise"] = noise(0, network.noise_shape(small))[None]
    filled = image.clone()
    filled[:, *window] = resize(inpaint(network, NetworkInput(small, holes, planes), ensemble)[0], part.shape[1:])
    return filled
