"""Pictures of fills at 512 px and of a large photo, beside Telea's.

`python -m tests.benchmarks.fill_pictures --models RUN [RUN ...] --large FILE --out FOLDER` writes `fills_512px.jpg`,
photos of scikit-image, and `fills_any_size.jpg`, the large one brought to 2000 px along its longer side, of which parts
are shown at full size. A column for the hole, one for each model, one for Telea.
"""

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import skimage.data
import torch

from tests.benchmarks.fill_cases import Case, Levels, draw_hole, read_photo
from tests.benchmarks.fills import Model, fill_by, fill_classically, open_model

_PART_PX: Final = 512
_LARGE_PX: Final = 2000
_SMALL: Final = {"astronaut": 0, "coffee": 1, "chelsea": 3}
"""Photos, and the numbers by which their holes are drawn."""
_HOLE: Final = (255, 0, 255)


def columns_of(case: Case, models: list[Model]) -> list[Levels]:
    """The photo with its hole, filled by each model, and by Telea's method."""
    hidden = np.where(case.hole[..., None] > 0, np.array(_HOLE, np.uint8), case.photo)
    fills = [fill_by(model, case, model.procedure) for model in models]
    return [hidden, *fills, fill_classically(cv2.INPAINT_TELEA, case)]


def draw_small(models: list[Model]) -> list[Levels]:
    """A row per photo of scikit-image."""
    rows = []
    for name, number in _SMALL.items():
        photo = getattr(skimage.data, name)()
        scale = _PART_PX / max(photo.shape[:2])
        size = tuple(min(_PART_PX, round(length * scale)) for length in photo.shape[1::-1])
        photo = photo if scale > 1 else np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        rows.append(_side_by_side(columns_of(Case(photo, draw_hole(number, photo.shape[:2], [])), models)))
    return rows


def draw_large(path: Path, models: list[Model]) -> list[Levels]:
    """The large photo shrunk, and a row for each of its holes at full size."""
    photo = read_photo(path, _LARGE_PX)
    height, width = photo.shape[:2]
    hole = np.zeros((height, width), np.uint8)
    middles = [(int(0.55 * width), int(0.4 * height)), (int(0.25 * width), int(0.75 * height))]
    for middle in middles:
        cv2.ellipse(hole, middle, (int(0.09 * width), int(0.07 * width)), 20, 0, 360, 1, -1)
    cv2.line(hole, (int(0.6 * width), int(0.95 * height)), (int(0.95 * width), int(0.1 * height)), 1, int(0.01 * width))
    columns = columns_of(Case(photo, hole), models)
    small = (_PART_PX, round(_PART_PX * height / width))
    rows = [_side_by_side([np.asarray(cv2.resize(x, small, interpolation=cv2.INTER_AREA), np.uint8) for x in columns])]
    for x, y in middles:
        left, top = (min(max(0, at - _PART_PX // 2), n - _PART_PX) for at, n in ((x, width), (y, height)))
        rows.append(_side_by_side([column[top : top + _PART_PX, left : left + _PART_PX] for column in columns]))
    return rows


def _side_by_side(pictures: list[Levels]) -> Levels:
    """Pictures HW3 of one size in a row, with white between them, each as wide as a part."""
    wide = _PART_PX + 4
    padded = [np.pad(x, ((0, 4), (0, wide - x.shape[1]), (0, 0)), constant_values=255) for x in pictures]
    return np.concatenate(padded, axis=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--large", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    opened = [open_model(uri) for uri in chosen.models]
    sheets = {"fills_512px": draw_small(opened), "fills_any_size": draw_large(chosen.large, opened)}
    for name, rows in sheets.items():
        quality = [cv2.IMWRITE_JPEG_QUALITY, 65]
        cv2.imwrite(str(chosen.out / f"{name}.jpg"), np.concatenate(rows)[..., ::-1], quality)
