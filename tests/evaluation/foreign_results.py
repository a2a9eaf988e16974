"""Folders as another system writes them: photos, masks in any convention, and filled pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
MAGENTA = (255, 0, 254)


def draw_photo(number: int, height: int = 40, width: int = 52) -> Pixels:
    """Noise of its own on a ramp, without magenta."""
    rng = np.random.default_rng(number)
    ramp = np.linspace(20, 180, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return (ramp + rng.integers(0, 40, (height, width, 3))).astype(np.uint8)


def draw_mask(number: int, height: int = 40, width: int = 52) -> Pixels:
    """A rectangle in {0, 1} that depends on the number."""
    mask = np.zeros((height, width), np.uint8)
    mask[5 + number % 7 : 25, 8 : 30 + number % 11] = 1
    return mask


def fill_blurred(photo: Pixels, mask: Pixels) -> Pixels:
    """The photo with a blurred hole."""
    return np.where(mask[:, :, None] > 0, cv2.blur(photo, (9, 9)), photo)


def to_white(_photo: Pixels, mask: Pixels) -> Pixels:
    """Mask with a white hole."""
    return mask * np.uint8(255)


def to_black(_photo: Pixels, mask: Pixels) -> Pixels:
    """Mask with a black hole."""
    return (1 - mask) * np.uint8(255)


def to_transparent(photo: Pixels, mask: Pixels) -> Pixels:
    """Masked input with a transparent hole."""
    return np.dstack([np.where(mask[:, :, None] > 0, 0, photo), (1 - mask) * 255]).astype(np.uint8)


def to_magenta(photo: Pixels, mask: Pixels) -> Pixels:
    """Masked input with a magenta hole."""
    return np.where(mask[:, :, None] > 0, np.array(MAGENTA, np.uint8), photo)


CONVENTIONS: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "white": to_white,
    "black": to_black,
    "alpha": to_transparent,
    "#ff00fe": to_magenta,
}


def save(path: Path, pixels: NDArray[Any], **settings: Any) -> Path:
    """A picture file; its format follows from the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def write_system(folder: Path, count: int, hole: str = "white", result: str = "{}.png", mask: str = "{}.png") -> None:
    """Folders `photos`, `out` and `masks` of a system that blurs."""
    for number in range(count):
        name, photo, drawn = f"{number:03d}", draw_photo(number), draw_mask(number)
        save(folder / "photos" / f"{name}.png", photo)
        save(folder / "masks" / mask.format(name), CONVENTIONS[hole](photo, drawn))
        save(folder / "out" / result.format(name), fill_blurred(photo, drawn))
