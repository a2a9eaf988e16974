"""Inputs of a network beside photo and mask, from files: a sketch, a segmentation map.

In: bytes of a picture of the photo's size. Out: float tensors of one photo, as `Model.fill` takes them.
"""

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from pipelines.data.image.header import read_header
from pipelines.data.image.normalize import read_pixels
from pipelines.decoding import Picture
from pipelines.filling.orientation import lay_on, refuse_unfitting
from pipelines.filling.photo_files import PHOTO_CONFIG, Photo
from pipelines.masks.foreign import refuse_other_size
from pipelines.records import Rejected, UsageError

_MOST_STROKES: Final = 0.4


def read_plane(name: str, data: bytes, photo: Photo, where: str, orientation: str) -> Tensor:
    """The plane 1xCxHxW of this name for a photo; raises UsageError naming `where` for what is none."""
    header = read_header(data)
    if isinstance(header, Rejected):
        raise UsageError(f"{where} is no {name}: {header.reason}")
    refuse_unfitting(photo.header, header, where)
    found = read_pixels(data, PHOTO_CONFIG)
    if isinstance(found, Rejected):
        raise UsageError(f"{where} is no {name}: {found.reason}")
    pixels = lay_on(photo.header, 1, orientation, where)(found[0]) if header.orientation == 1 else found[0]
    refuse_other_size((pixels.shape[0], pixels.shape[1]), photo.size, where)
    return _TO_TENSOR[name](pixels, where)


def _to_sketch(pixels: Picture, where: str) -> Tensor:
    """Strokes 1x1xHxW in {0, 1}: the rarer of dark and light pixels, so black on white and white on black are one."""
    levels = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    dark = np.asarray(levels) < 128
    share = float(dark.mean())
    if not 0 < share < 1:
        raise UsageError(f"{where} has no strokes: all of it is {'dark' if share else 'light'}")
    if min(share, 1 - share) > _MOST_STROKES:
        raise UsageError(f"{where} is no sketch: {share:.0%} of it is dark; draw thin dark strokes on white")
    return torch.from_numpy(dark if share <= 0.5 else ~dark).float()[None, None]


def _to_segmentation(pixels: Picture, where: str) -> Tensor:
    """Colors of classes 1x3xHxW in [0, 1]."""
    colors = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(colors)).permute(2, 0, 1)[None].float() / 255


_TO_TENSOR: Final[Mapping[str, Callable[[Picture, str], Tensor]]] = {
    "sketch": _to_sketch,
    "segmentation": _to_segmentation,
}
