"""Photos with holes for comparing ways to fill: half of them from BSDS500, half from photos of many sizes.

In: the folder that `LACUNA_DATA` names. Out: 30 photos with holes of 3 to 15 %: ellipses, strokes and outlines of
objects, in turn. Holes are drawn from the number of the photo, so they are the same at every run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]


class Case(NamedTuple):
    """A photo HW3 and its hole HW, 1 = hole."""

    photo: Levels
    hole: Levels


def find_photos(data: Path) -> list[Path]:
    """14 photos of BSDS500, 6 of COCO, 4 of ADE20K, 6 of those with an object to remove."""
    folders = {"bsds500/val": 14, "photos/coco/val_img": 6, "photos/ade20k": 4, "photos/object_removal/images": 6}
    found = []
    for folder, count in folders.items():
        paths = sorted(p for p in (data / folder).rglob("*.jp*g"))
        found += paths[:: len(paths) // count][:count]
    return found


def read_cases(data: Path, size_px: int | None) -> Iterator[Case]:
    """Yield the photos, their longer side at most `size_px`, with their holes."""
    objects = [_cut(path) for path in sorted((data / "photos/object_removal/masks").glob("*.png"))]
    for number, path in enumerate(find_photos(data)):
        photo = read_photo(path, size_px)
        yield Case(photo, draw_hole(number, photo.shape[:2], objects))


def read_photo(path: Path, size_px: int | None) -> Levels:
    """The photo HW3, by areas brought to at most so many pixels along its longer side."""
    photo = np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1]
    longer = max(photo.shape[:2])
    if size_px is not None and longer > size_px:
        height, width = (round(length * size_px / longer) for length in photo.shape[:2])
        photo = np.asarray(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(photo)


def draw_hole(number: int, size: tuple[int, ...], objects: list[Levels]) -> Levels:
    """The hole of this photo: by its number ellipses, strokes or an object."""
    rng = np.random.default_rng(1000 + number)
    ratio = rng.uniform(0.03, 0.15)
    if number % 3 == 0:
        return _draw_ellipses(rng, size, ratio)
    return _draw_strokes(rng, size, ratio) if number % 3 == 1 else _place_object(rng, size, ratio, objects)


def _draw_ellipses(rng: np.random.Generator, size: tuple[int, ...], ratio: float) -> Levels:
    """One to three ellipses, this share of the picture in sum where they do not overlap."""
    (height, width), count = size, int(rng.integers(1, 4))
    hole = np.zeros((height, width), np.uint8)
    for _ in range(count):
        area, aspect = ratio * height * width / count, rng.uniform(0.5, 2)
        axes = int(np.sqrt(area / aspect / np.pi)), int(np.sqrt(area * aspect / np.pi))
        middle = int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height)
        cv2.ellipse(hole, middle, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return hole


def _draw_strokes(rng: np.random.Generator, size: tuple[int, ...], ratio: float) -> Levels:
    """Strokes of one pen until they cover this share."""
    shorter = min(size)
    hole, pen = np.zeros(size, np.uint8), max(2, int(shorter * rng.uniform(0.02, 0.06)))
    at, angle = rng.uniform(0, 1, 2) * size, rng.uniform(0, 2 * np.pi)
    while hole.mean() < ratio:
        angle += rng.normal(0, 0.7)
        end = at + rng.uniform(0.05, 0.2) * shorter * np.array([np.sin(angle), np.cos(angle)])
        end = np.clip(end, 0, np.array(size) - 1)
        if rng.random() < 0.1:
            at = end = rng.uniform(0, 1, 2) * size
        cv2.line(hole, (int(at[1]), int(at[0])), (int(end[1]), int(end[0])), 1, pen)
        at = end
    return hole


def _place_object(rng: np.random.Generator, size: tuple[int, ...], ratio: float, objects: list[Levels]) -> Levels:
    """The outline of an object, this share of the picture as far as it goes in."""
    outline = objects[int(rng.integers(len(objects)))]
    scale = float(np.sqrt(ratio * size[0] * size[1] / outline.sum()))
    scale = min(scale, *(0.9 * whole / length for whole, length in zip(size, outline.shape, strict=True)))
    height, width = (max(1, int(length * scale)) for length in outline.shape)
    placed = cv2.resize(outline, (width, height), interpolation=cv2.INTER_NEAREST)
    top, left = int(rng.uniform(0, size[0] - height)), int(rng.uniform(0, size[1] - width))
    hole = np.zeros(size, np.uint8)
    hole[top : top + height, left : left + width] = placed
    return hole


def _cut(path: Path) -> Levels:
    """A mask file's hole, cut to its box, in {0, 1}."""
    mask = (np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 127).astype(np.uint8)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
