"""Pictures for people: grids of labeled columns as PNG bytes, holes and clusters in color."""

import io
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Columns = Sequence[tuple[str, NDArray[np.uint8]]]
"""Titles, each with the pictures below it."""

_GAP_PX = 4
_HEADER_PX = 18
_CRITERIA: Final = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
_ATTEMPTS: Final = 10


def render_grid(columns: Columns, enlarge: int = 1) -> bytes:
    """Columns of (title, uint8 NxHxWx3) with the same N, H, W -> a PNG with N rows, pixels `enlarge` times as large."""
    return encode_sheets([draw_grid(columns, enlarge)])


def draw_grid(columns: Columns, enlarge: int = 1) -> Image.Image:
    """The picture of `render_grid`."""
    rows, height, width = columns[0][1].shape[:3]
    cell_h, cell_w = height * enlarge + _GAP_PX, width * enlarge + _GAP_PX
    sheet = Image.new("RGB", (cell_w * len(columns) + _GAP_PX, cell_h * rows + _HEADER_PX + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, pictures) in enumerate(columns):
        left = _GAP_PX + column * cell_w
        draw.text((left, 3), title, fill="black")
        for row, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((width * enlarge, height * enlarge), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, _HEADER_PX + row * cell_h))
    return sheet


def encode_sheets(sheets: Sequence[Image.Image]) -> bytes:
    """A PNG of pictures one below the other, on white."""
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return _encode_png(whole)


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """PNG of a picture uint8 HxWx3."""
    return _encode_png(Image.fromarray(np.ascontiguousarray(picture)))


def _encode_png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def whiten_hole(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images NxHxWx3 with the hole of masks NxHxW painted white."""
    return np.where(masks[..., None] > 0, np.uint8(255), images)


def color_clusters(features: NDArray[np.float32], num_clusters: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    """Feature maps CxHxW -> HxWx3: pixels of one k-means cluster have one color of JET (as SPN's Figs. 10 and 11).

    Colors go from blue, the largest cluster, to red, the smallest; the paper's are random.
    """
    channels, height, width = features.shape
    pixels = np.ascontiguousarray(features.reshape(channels, -1).T, np.float32)
    cv2.setRNGSeed(seed)  # of this thread; OpenCV takes no generator as an argument
    none: NDArray[np.int32] = np.empty((0,), np.int32)
    _, labels, _ = cv2.kmeans(pixels, num_clusters, none, _CRITERIA, _ATTEMPTS, cv2.KMEANS_RANDOM_CENTERS)
    ranks = np.argsort(np.argsort(-np.bincount(labels[:, 0], minlength=num_clusters), kind="stable"))
    levels = (ranks * 255 // (num_clusters - 1)).astype(np.uint8)[labels[:, 0]]
    colored = cv2.applyColorMap(levels.reshape(height, width), cv2.COLORMAP_JET)
    return np.asarray(colored[..., ::-1], np.uint8)
