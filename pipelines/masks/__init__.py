"""Hole shapes. `MASKS` holds every family that is drawn, `FILE_MASKS` those that are read from files.

In: height, width and a chance. Out: uint8 HxW in {0, 1}, 1 = hole. A recipe of `pipelines.masks.recipe` redraws a mask
bit for bit. A change that alters a mask of a given path needs a new version of the family.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.masks.automaton import draw_automaton
from pipelines.masks.brush import draw_brush
from pipelines.masks.brush_square import draw_brush_square
from pipelines.masks.freeform import draw_freeform, draw_freeform_brush
from pipelines.masks.irregular import draw_irregular, draw_irregular_train
from pipelines.masks.rectangle import draw_rectangle
from pipelines.masks.shapes import draw_centre, draw_expand, draw_half
from pipelines.masks.strokes import draw_strokes


class DrawMask(Protocol):
    """Draws a mask HxW. Lengths given in pixels are the paper's at a side of 256 px and grow with it."""

    def __call__(self, height: int, width: int, chance: Chance, side_px: int = 256, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class MaskFamily:
    """A way to draw holes, and the version of its arithmetic."""

    version: int
    draw: DrawMask


@dataclass(frozen=True)
class FileMaskFamily:
    """A way to make holes HxW of the grey levels of a file, and the version of its arithmetic."""

    version: int
    draw: Callable[[NDArray[np.uint8], int, int, Chance], NDArray[np.uint8]]


MASKS: dict[str, MaskFamily] = {
    "rectangle": MaskFamily(1, draw_rectangle),
    "brush": MaskFamily(2, draw_brush),
    "automaton": MaskFamily(2, draw_automaton),
    "freeform": MaskFamily(1, draw_freeform),
    "freeform-brush": MaskFamily(1, draw_freeform_brush),
    "brush-square": MaskFamily(1, draw_brush_square),
    "strokes": MaskFamily(1, draw_strokes),
    "centre": MaskFamily(1, draw_centre),
    "half": MaskFamily(1, draw_half),
    "expand": MaskFamily(1, draw_expand),
}
FILE_MASKS: dict[str, FileMaskFamily] = {
    "irregular": FileMaskFamily(1, draw_irregular),
    "irregular-train": FileMaskFamily(1, draw_irregular_train),
}
