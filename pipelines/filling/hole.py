"""The hole of a photo: from a mask file or from its own transparency, grown, and blended at its edge.

In: the photo and bytes of a mask. Out: uint8 HxW in {0, 1}, 1 = hole. Distances are those between pixel centers.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.data.image.header import read_header
from pipelines.decoding import Picture
from pipelines.filling.orientation import MaskOrientation, lay_on, refuse_unfitting
from pipelines.filling.photo_files import Photo
from pipelines.masks.foreign import find_gray_known, read_mask, to_mask
from pipelines.records import Rejected, UsageError

HoleColor = Literal["auto", "white", "black", "alpha"]


@dataclass(frozen=True)
class HoleSettings:
    """Settings by which a mask, or a photo's transparency, becomes a hole."""

    color: HoleColor = "auto"
    orientation: MaskOrientation = "auto"
    grow_px: int = 0
    """Known pixels that are filled beside the hole, up to this distance."""
    feather_px: int = 0
    """Width of the band around the hole in which the fill fades into the photo."""

    def __post_init__(self) -> None:
        for name, px in (("--grow", self.grow_px), ("--feather", self.feather_px)):
            if px < 0:
                raise UsageError(f"{name} is {px}: it must be 0 px or more")


class Hole(NamedTuple):
    """Pixels of a photo that are filled."""

    mask: Picture
    """uint8 HxW in {0, 1}, grown as its settings say."""
    num_gray: int
    """Gray pixels of the mask file, or half transparent ones of the photo, that count as known."""


def read_hole(photo: Photo, mask: bytes | None, where: str, settings: HoleSettings) -> Hole:
    """The hole of a photo; `mask` is None for the photo's transparency.

    Raises UsageError naming `where` for what is no mask of this photo, and where no known pixel is left.
    """
    soft = settings.grow_px > 0 or settings.feather_px > 0
    if mask is None:
        assert photo.alpha is not None
        levels = 255 - photo.alpha
        hole, gray = to_mask(levels, "transparent", where, soft), find_gray_known(levels, "transparent")
    else:
        hole, gray = _read_mask_file(photo, mask, where, settings, soft)
    grown = grow(hole, settings.grow_px)
    if grow(grown, settings.feather_px).all():
        px = settings.grow_px + settings.feather_px
        raise UsageError(
            f"{where}: with {px} px around it the hole covers all of the photo: take a smaller --grow or --feather"
        )
    return Hole(grown, int(np.count_nonzero(gray & (grown == 0))))


def grow(mask: Picture, px: int) -> Picture:
    """Mask HxW in {0, 1} with all pixels that lie up to so many px from its hole."""
    if px == 0:
        return mask
    box = _find_box(mask, px)
    grown = mask.copy()
    grown[box] = _measure_distance(mask[box]) <= px
    return grown


def feather(photo: Picture, filled: Picture, hole: Picture, px: int) -> Picture:
    """The fill HxWx3 of a hole grown by `px`, faded into the photo HxWx3 the farther a pixel lies from the hole.

    A pixel at a distance d of up to `px` from the hole has 1 - d / (px + 1) of the fill.
    """
    if px == 0:
        return filled
    box = _find_box(hole, px)
    distance = _measure_distance(hole[box])
    band = (distance > 0) & (distance <= px)
    share = (1 - distance[band] / (px + 1))[:, None]
    blended = filled.copy()
    blended[box][band] = np.rint(share * filled[box][band] + (1 - share) * photo[box][band]).astype(np.uint8)
    return blended


def _read_mask_file(
    photo: Photo, mask: bytes, where: str, settings: HoleSettings, soft: bool
) -> tuple[Picture, NDArray[np.bool_]]:
    header = read_header(mask)
    own_orientation = 1
    if not isinstance(header, Rejected):  # others are decoded and refused in their own words
        own_orientation = header.orientation
        refuse_unfitting(photo.header, header, where)
    turn = lay_on(photo.header, own_orientation, settings.orientation, where)
    return read_mask(mask, photo.size, settings.color, where, turn, soft)


def _find_box(mask: Picture, margin_px: int) -> tuple[slice, slice]:
    """Rows and columns of the hole and of so much around it, inside the picture."""
    left, top, width, height = cv2.boundingRect(mask)
    rows = slice(max(0, top - margin_px), top + height + margin_px)
    return rows, slice(max(0, left - margin_px), left + width + margin_px)


def _measure_distance(mask: Picture) -> np.ndarray:
    """Distance HxW of each pixel from the hole of the mask, px, 0 inside."""
    return np.asarray(cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
