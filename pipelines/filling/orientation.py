"""How a mask lies on a photo that EXIF turns: as the photo is seen, or as it is stored.

In: the headers of both files. Out: a function that lays levels of the one as the upright photo lies, or a refusal
where nothing decides. Most programs show the photo upright and paint so; scripts often read the stored pixels.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.data.image.decode import turn_upright
from pipelines.data.image.header import Header
from pipelines.masks.foreign import Turn, refuse_other_size
from pipelines.records import UsageError

MaskOrientation = Literal["auto", "upright", "stored"]


def refuse_unfitting(photo: Header, other: Header, where: str) -> None:
    """Raise UsageError naming `where` for a picture that fits its photo in no orientation, before it is decoded."""
    if other.upright_size not in (photo.upright_size, _get_stored_size(photo)):
        refuse_other_size(other.upright_size[::-1], photo.upright_size[::-1], where)


def lay_on(photo: Header, own_orientation: int, how: str, where: str) -> Turn:
    """Function that turns levels HxW(xC) as the upright photo lies.

    `own_orientation`: what EXIF of their own file says; it decides where it is not 1. `how`: `upright`, `stored`, or
    `auto`: the one that fits by size. Levels of any other size stay as they are. Raises UsageError naming `where` for
    levels that fit both ways.
    """

    def turn(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if own_orientation != 1:
            return turn_upright(levels, own_orientation)
        if photo.orientation == 1 or how == "upright":
            return levels
        fits_upright, fits_stored = (
            levels.shape[:2] == size[::-1] for size in (photo.upright_size, _get_stored_size(photo))
        )
        if how == "auto" and fits_upright and fits_stored:
            raise UsageError(
                f"{where} may lie as its photo is seen or as it is stored: EXIF turns the photo (orientation "
                f"{photo.orientation}) and both have one size. Say --mask-orientation upright or stored"
            )
        is_stored = fits_stored and (how == "stored" or not fits_upright)
        return turn_upright(levels, photo.orientation) if is_stored else levels

    return turn


def _get_stored_size(photo: Header) -> tuple[int, int]:
    """Width and height in px as stored, not turned by EXIF."""
    return photo.width_px, photo.height_px
