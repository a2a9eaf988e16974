"""Pictures for people: a grid of labelled columns as PNG bytes. Shared by training, evaluation and the demo."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_GAP_PX = 4
_HEADER_PX = 18


def grid_png(columns: Sequence[tuple[str, NDArray[np.uint8]]], enlarge: int = 1) -> bytes:
    """Columns of (title, uint8 NxHxWx3) with the same N, H, W -> a PNG with N rows, pixels `enlarge` times as large."""
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
    sink = io.BytesIO()
    sheet.save(sink, "PNG")
    return sink.getvalue()


def with_hole(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images NxHxWx3 with the hole of masks NxHxW painted white."""
    return np.where(masks[..., None] > 0, np.uint8(255), images)
