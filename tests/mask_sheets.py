"""Contact sheets of masks for docs/masks.md: `python -m tests.mask_sheets` writes a small PNG for each drawn family.

In: MASKS. Out: docs/masks/FAMILY.png, eight masks of 64x64 drawn at 256, white = hole. The same masks each time.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import lacuna

FOLDER: Final = Path(__file__).parent.parent / "docs" / "masks"
_COUNT: Final = 8
_SIZE_PX: Final = 64
_GAP_PX: Final = 4


def draw_sheet(family: str) -> NDArray[np.uint8]:
    """Eight masks of a family side by side, uint8: 255 in holes, 128 between masks."""
    gap = np.full((_SIZE_PX, _GAP_PX), 128, np.uint8)
    parts: list[NDArray[np.uint8]] = []
    for number in range(_COUNT):
        line = f"{family} {lacuna.MASKS[family].version} drawn=256x256 {_SIZE_PX}x{_SIZE_PX} any sheet/{number}"
        parts += [gap, lacuna.parse_mask(line).draw() * np.uint8(255)]
    return np.hstack(parts[1:])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in lacuna.MASKS:
        Image.fromarray(draw_sheet(name)).save(FOLDER / f"{name}.png", optimize=True)
