"""The README's picture: free photos of scikit-image and scikit-learn, their holes, the fills of a model and of Telea.

`python -m tests.benchmarks.readme_picture --model RUN --out FILE`: photos are filled at their own size (1411x1411 px)
and shown 300 px wide.
"""

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import skimage.data
from sklearn.datasets import load_sample_image  # type: ignore[import-untyped]

from tests.benchmarks.fill_cases import Case, Levels
from tests.benchmarks.fill_pictures import columns_of
from tests.benchmarks.fills import open_model

_WIDTH_PX: Final = 300
_GAP_PX: Final = 6
_HOLES: Final = {
    "astronaut": [(0.31, 0.42, 0.08), (0.72, 0.6, 0.09), (0.12, 0.2, 0.07)],
    "china": [(0.3, 0.62, 0.07), (0.72, 0.4, 0.06), (0.85, 0.85, 0.08)],
    "retina": [(0.4, 0.3, 0.07), (0.62, 0.68, 0.09), (0.28, 0.6, 0.05)],
}
"""Disks in each photo: the middle across and down, and the radius, as shares of its width and height."""


def read_photos() -> dict[str, Levels]:
    """The photos by name, uint8 HxWx3."""
    photos = {"astronaut": skimage.data.astronaut(), "retina": skimage.data.retina()}
    return {**photos, "china": np.asarray(load_sample_image("china.jpg"), np.uint8)}


def draw_disks(name: str, height: int, width: int) -> Levels:
    """The hole of a photo, uint8 HxW in {0, 1}."""
    hole = np.zeros((height, width), np.uint8)
    for x, y, radius in _HOLES[name]:
        cv2.circle(hole, (round(x * width), round(y * height)), round(radius * min(height, width)), 1, -1)
    return hole


def draw_picture(run: str) -> Levels:
    """A row for each photo: the hole, the model's fill, Telea's fill."""
    models, photos = [open_model(run)], read_photos()
    rows = []
    for name in _HOLES:
        photo = photos[name]
        columns = columns_of(Case(photo, draw_disks(name, *photo.shape[:2])), models)
        size = (_WIDTH_PX, round(_WIDTH_PX * photo.shape[0] / photo.shape[1]))
        small = [np.asarray(cv2.resize(column, size, interpolation=cv2.INTER_AREA), np.uint8) for column in columns]
        rows.append(np.hstack([np.pad(x, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=255) for x in small]))
    return np.vstack(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="URI of a run")
    parser.add_argument("--out", required=True, type=Path, help="the picture, .jpg or .png")
    arguments = parser.parse_args()
    picture = draw_picture(arguments.model)
    cv2.imwrite(str(arguments.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
