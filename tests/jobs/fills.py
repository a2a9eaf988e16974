"""Photos with masks in folders, and `lacuna fill` run on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.faults import VerbError
from jobs.fill import Arguments, run
from tests.making import photo

HEIGHT, WIDTH = 30, 42


def hole_mask(top: int = 8, left: int = 10, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + 9, left : left + 12] = 255
    return Image.fromarray(mask)


def photos_and_masks(folder: Path, count: int, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """`photos/<class>/<n>.jpg|png` and `masks/<class>/<n>_mask.png`."""
    for number in range(count):
        name = f"class{number % 2}/{number:03d}"
        for part in ("photos", "masks"):
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
        suffix = "png" if number % 3 else "jpg"
        photo(number, height, width).save(folder / "photos" / f"{name}.{suffix}", quality=95)
        hole_mask(number % 10, 3 + number % 7, height, width).save(folder / "masks" / f"{name}_mask.png")
    return folder


def fill(folder: Path, out: str = "out", model: str = "telea", **changes: Any) -> dict[str, Any]:
    """Runs the verb on the folder's photos; the report."""
    place = out if "://" in out else str(folder / out)
    words = {"image": str(folder / "photos"), "mask": str(folder / "masks"), "out": place}
    return run(Arguments(**{"model": model, **words, **changes}))


def refusal(folder: Path, **changes: Any) -> tuple[dict[str, Any], str]:
    """Report and words of a run of which a part was refused."""
    with pytest.raises(VerbError) as caught:
        fill(folder, **changes)
    return caught.value.report, str(caught.value)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
