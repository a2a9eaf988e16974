"""Mask recipes: a few bytes of ASCII from which a mask is drawn again, bit for bit, on any machine.

    rectangle 1 drawn=256x256 64x64 any 0/mask/celeba/000123

is: family, version, parameters (the canvas it is drawn on), height x width of what the network sees (nearest
neighbours of the canvas), hole-ratio bin (`any`: not chosen), seed path.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.chance import Chance
from pipelines.masks import MASKS
from pipelines.masks.reduction import resize_nearest

_MAX_TRIES = 1000
_LINE = re.compile(r"([a-z_]+) (N) drawn=(N)x(N) (N)x(N) (any) ([!-~]+)".replace("N", "0|[1-9][0-9]{0,8}"))


@dataclass(frozen=True)
class MaskRecipe:
    """One mask, as text. Sizes are (height, width) in pixels."""

    family: str
    version: int
    drawn_px: tuple[int, int]
    size_px: tuple[int, int]
    seed_path: str

    def line(self) -> str:
        """The recipe as one line of ASCII."""
        drawn, size = ("x".join(map(str, s)) for s in (self.drawn_px, self.size_px))
        return f"{self.family} {self.version} drawn={drawn} {size} any {self.seed_path}"

    def draw(self) -> NDArray[np.uint8]:
        """The mask, uint8 HxW in {0, 1}; drawn anew as often as it comes out empty or full at its final size."""
        family = MASKS.get(self.family)
        if family is None or family.version != self.version:
            known = ", ".join(f"{name} {f.version}" for name, f in MASKS.items())
            raise ValueError(f"no mask family {self.family!r} of version {self.version} here: known are {known}")
        chance = Chance(self.seed_path, self.family)
        for _ in range(_MAX_TRIES):
            mask = resize_nearest(family.draw(*self.drawn_px, chance), *self.size_px)
            if 0 < np.count_nonzero(mask) < mask.size:
                return mask
        raise ValueError(f"no mask follows {self.line()!r}: {_MAX_TRIES} came out empty or full; take a larger canvas")


def parse_recipe(line: str) -> MaskRecipe:
    """The recipe of a line; raises ValueError naming the line and the form it should have."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a mask recipe: {line!r}; expected 'FAMILY VERSION drawn=HxW HxW any SEED/PATH'")
    family, version, *sizes, _, path = match.groups()
    drawn_h, drawn_w, height, width = map(int, sizes)
    return MaskRecipe(family, int(version), (drawn_h, drawn_w), (height, width), path)


def recipe_for(family: str, drawn_px: int, size_px: int, *path: int | str) -> MaskRecipe:
    """A recipe for square masks of the family's present version; `path` is the seed path, joined by slashes."""
    if family not in MASKS:
        raise ValueError(f"unknown mask family {family!r}: known are {', '.join(MASKS)}")
    return MaskRecipe(family, MASKS[family].version, (drawn_px, drawn_px), (size_px, size_px), "/".join(map(str, path)))
