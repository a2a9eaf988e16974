"""Hole shapes. `MASKS` holds every family; a recipe of `pipelines.masks.recipe` redraws a mask bit for bit.

In: height, width and a chance. Out: uint8 HxW in {0, 1}, 1 = hole. A change that alters a mask of a given path needs
a new version of the family.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.masks.automaton import draw_automaton
from pipelines.masks.brush import draw_brush
from pipelines.masks.rectangle import draw_rectangle


@dataclass(frozen=True)
class MaskFamily:
    """A way to draw holes, and the version of its arithmetic."""

    version: int
    draw: Callable[[int, int, Chance], NDArray[np.uint8]]


MASKS: dict[str, MaskFamily] = {
    "rectangle": MaskFamily(1, draw_rectangle),
    "brush": MaskFamily(1, draw_brush),
    "automaton": MaskFamily(1, draw_automaton),
}
