"""Sketches of photos: the strokes that a user might draw, made as MHTMA makes them (section IV-F, its steps 1 to 4).

In: a photo uint8 HxWx3 at the size that the network sees, or its edge map uint8 HxWx1 out of a file (PiDiNet's). Out: a
sketch uint8 HxWx1 in {0, 255}, thin lines. Apart from the batches because it is plain arithmetic on one picture.
"""

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding import Picture

THRESHOLD: Final = 0.65
"""Of edge maps in [0, 1]: what is above it becomes a line; the paper's for Paris StreetView."""
_SIDE_PX: Final = 256
"""The side at which the paper's sizes are meant; lengths grow with the side, or the root of the area, areas with it."""
_LEAST_PX: Final = 100
"""Components with fewer pixels are taken for noise."""
_SIGMA_PX: Final = 1.5
_STRONGEST: Final = 0.95
"""Quantile of the gradients that counts as a certain edge: a gradient alone has no scale of its own."""


def detect_edges(photo: Picture) -> NDArray[np.float32]:
    """Photo HxWx3 -> edge map HxW in [0, 1]: the largest Gaussian gradient of its colours, by the photo's own scale.

    Stands in where no detector's maps are at hand; a photo of one colour has no edges.
    """
    sigma = _SIGMA_PX * math.sqrt(photo.shape[0] * photo.shape[1]) / _SIDE_PX
    smooth = cv2.GaussianBlur(photo.astype(np.float32), (0, 0), max(sigma, 0.5))
    down, across = np.gradient(smooth, axis=(0, 1))
    strength = np.hypot(down, across).max(axis=2)
    certain = max(float(np.quantile(strength, _STRONGEST)), 1.0)  # less than a grey level a pixel is no edge
    return np.asarray(np.minimum(strength / certain, 1), np.float32)


def edges_to_sketch(edges: NDArray[np.floating], threshold: float) -> Picture:
    """Edge map HxW in [0, 1] -> sketch HxWx1: what is above the threshold and large enough, thinned to lines."""
    from skimage.morphology import skeletonize

    lines = skeletonize(_opened((edges > threshold).astype(np.uint8)) > 0, method="zhang")
    return np.asarray(lines, np.uint8)[:, :, None] * np.uint8(255)


def draw_sketch(photo: Picture, edges: Picture | None = None, threshold: float = THRESHOLD) -> Picture:
    """Photo HxWx3 -> sketch HxWx1, by its edge map uint8 HxWxC (first channel) if there is one, else by gradients."""
    strength = detect_edges(photo) if edges is None else edges[:, :, 0].astype(np.float32) / 255
    return edges_to_sketch(strength, threshold)


def _opened(marks: Picture) -> Picture:
    """{0, 1} HxW without the 8-connected components that are too small for its size (area opening)."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(marks, connectivity=8)
    least = _LEAST_PX * marks.size / _SIDE_PX**2
    kept = facts[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False  # the ground
    return np.asarray(kept[labels], np.uint8)
