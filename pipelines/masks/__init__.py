"""Hole shapes. `MASKS` holds every family that is drawn, `FILE_MASKS` those that are read from files.

In: height, width and a chance. Out: uint8 HxW in {0, 1}, 1 = hole. A recipe of `pipelines.masks.spec` redraws a mask
bit for bit. A change that alters a mask of a given path needs a new version of the family.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.automaton import draw_automaton
from pipelines.masks.brush import sketch_brush
from pipelines.masks.brush_square import sketch_brush_square
from pipelines.masks.capsules import Sketch, draw_sketches
from pipelines.masks.freeform import sketch_freeform, sketch_freeform_brush
from pipelines.masks.irregular import draw_irregular, draw_irregular_train
from pipelines.masks.rectangle import draw_rectangle
from pipelines.masks.shapes import draw_center, draw_expand, draw_half
from pipelines.masks.strokes import draw_strokes_clear_border, sketch_strokes


class DrawMask(Protocol):
    """Draws a mask HxW. Lengths given in pixels are the paper's at a side of 256 px and grow with it."""

    def __call__(self, height: int, width: int, chance: KeyedRng, side_px: int = 256, /) -> NDArray[np.uint8]: ...


class SketchMask(Protocol):
    """Says what a mask HxW is made of; lengths as above."""

    def __call__(self, height: int, width: int, chance: KeyedRng, side_px: int = 256, /) -> Sketch: ...


@dataclass(frozen=True)
class MaskFamily:
    """A way to draw holes, and the version of its arithmetic."""

    version: int
    draw: DrawMask
    sketch: SketchMask | None = None
    """Of a family of strokes: its masks may be drawn together."""


def _of_strokes(version: int, sketch: SketchMask) -> MaskFamily:
    return MaskFamily(version, partial(_draw_sketch, sketch), sketch)


def _draw_sketch(
    sketch: SketchMask, height: int, width: int, chance: KeyedRng, side_px: int = 256
) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = draw_sketches(height, width, [sketch(height, width, chance, side_px)])[0]
    return mask


@dataclass(frozen=True)
class FileMaskFamily:
    """A way to make holes HxW of the grey levels of a file, and the version of its arithmetic."""

    version: int
    draw: Callable[[NDArray[np.uint8], int, int, KeyedRng], NDArray[np.uint8]]
    hole: str
    """Its colour in the files: white or black."""
    by_chance: bool
    """Whether a file makes more than one mask."""


MASKS: dict[str, MaskFamily] = {
    "rectangle": MaskFamily(1, draw_rectangle),
    "brush": _of_strokes(2, sketch_brush),
    "automaton": MaskFamily(2, draw_automaton),
    "freeform": _of_strokes(1, sketch_freeform),
    "freeform-brush": _of_strokes(1, sketch_freeform_brush),
    "brush-square": _of_strokes(1, sketch_brush_square),
    "strokes": _of_strokes(1, sketch_strokes),
    "strokes-clear-border": MaskFamily(1, draw_strokes_clear_border),
    "centre": MaskFamily(1, draw_center),
    "half": MaskFamily(1, draw_half),
    "expand": MaskFamily(1, draw_expand),
}
FILE_MASKS: dict[str, FileMaskFamily] = {
    "irregular": FileMaskFamily(1, draw_irregular, "white", by_chance=False),
    "irregular-train": FileMaskFamily(1, draw_irregular_train, "black", by_chance=True),
}
