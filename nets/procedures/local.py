"""The local procedure: windows around the holes go through the network, and the rest of the photo is not touched.

In: a photo. Out: the photo with its holes filled. Time and memory grow with the holes and their surroundings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, nn

from nets.procedures.network import (
    ChallengeSteps,
    NetworkInput,
    Photo,
    draw_noise,
    finish,
    get_device,
    predict,
    refuse_non_finite,
)
from nets.procedures.resize import resize_plane
from nets.procedures.restore import Part, restore, spread
from nets.procedures.scale import mirror_to_square, reduce_known, scale_size
from nets.procedures.windows import Group, group_holes

_WINDOWS_AT_A_TIME: Final = 16


@dataclass(frozen=True)
class WindowSize:
    """How large windows are, in the photo and before the network."""

    network_px: int
    """The network's own size."""
    scale: int
    """Side of a window as the network sees it, over that size."""
    context: float
    """Side of a window in the photo over that of its holes' box."""

    @property
    def side_px(self) -> int:
        """Side of a window as the network sees it."""
        return self.scale * self.network_px


def fill_local(
    network: nn.Module,
    photo: Photo,
    size: WindowSize,
    steps: ChallengeSteps,
) -> Tensor:
    """Photo -> uint8 HW3; raises NonFiniteFillError. Several windows go through the network as one batch."""
    groups = group_holes(photo.hole, size.side_px, size.context)
    left = replace(photo, levels=photo.levels.clone(), hole=photo.hole.clone())
    for start, batch in _batches(groups):
        parts = _fill_small(network, left, batch, start, size, steps)
        colors = [restore(part).cpu()[group.holes] for group, part in zip(batch, parts, strict=True)]
        for group, made in zip(batch, colors, strict=True):
            left.levels[group.window.place][group.holes] = made
            left.hole[group.window.place][group.holes] = 0
    return left.levels


def _batches(groups: Sequence[Group]) -> Iterator[tuple[int, Sequence[Group]]]:
    """Yield groups of one round, and the number of the first of them."""
    start = 0
    for _, turn in groupby(groups, key=lambda group: group.round):
        of_round = list(turn)
        for first in range(0, len(of_round), _WINDOWS_AT_A_TIME):
            yield start + first, of_round[first : first + _WINDOWS_AT_A_TIME]
        start += len(of_round)


def _fill_small(
    network: nn.Module, photo: Photo, groups: Sequence[Group], first: int, size: WindowSize, steps: ChallengeSteps
) -> list[Part]:
    """The windows of these groups, filled at the network's size; `first` is the number of the first."""
    device = get_device(network)
    shown = [_show(photo, group, size.side_px, device) for group in groups]
    planes = {name: torch.stack([mirror_to_square(small[name], size.side_px) for small in shown]) for name in shown[0]}
    if photo.noise is not None:
        noises = [(photo.noise, first + i) for i in range(len(groups))]
        planes["noise"] = draw_noise(network, planes["image"], noises)
    pictures = NetworkInput(planes.pop("image"), planes.pop("mask"), planes)
    predicted = finish(predict(network, pictures, steps), steps)
    refuse_non_finite(predicted, pictures.mask)
    return [
        Part(
            photo.levels[group.window.place].to(device),
            photo.hole[group.window.place].to(device),
            group.holes.to(device),
            meet(small["image"], small["mask"], fill[:, : small["mask"].shape[1], : small["mask"].shape[2]]),
            small["mask"],
            size.scale,
        )
        for group, small, fill in zip(groups, shown, predicted, strict=True)
    ]


def _show(photo: Photo, group: Group, size_px: int, device: torch.device) -> dict[str, Tensor]:
    """The group's window and all beside it, its longer side `size_px`."""
    place = group.window.place
    size = scale_size(photo.hole[place].shape, size_px)
    image, mask = reduce_known(photo.levels[place].to(device), photo.hole[place].to(device), size)
    planes = {name: resize_plane(plane[:, *place].to(device), size) for name, plane in photo.guides.items()}
    return {"image": image, "mask": mask} | planes


def meet(known: Tensor, mask: Tensor, predicted: Tensor) -> Tensor:
    """Picture 3hw, 0 in its hole 1hw, and prediction 3hw -> the picture filled by it, without a step at the border."""
    step = torch.where(mask > 0, 0.0, known - predicted).nan_to_num(0.0, 0.0, 0.0)
    return torch.where(mask > 0, predicted + spread(step[None], 1 - mask[None])[0], known)
