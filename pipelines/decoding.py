"""Photos -> pixels: the one decision of what can be decoded, for who writes shards and for who reads them.

In: bytes of a JPEG, PNG or WebP. Out: uint8 pixels, and what a strict reader holds against the file. JPEG is decoded by
libjpeg-turbo, which is asked to stop at its first warning. A warning about segments changes no pixel, so the file is
then decoded once more with its segments put right: what is warned of now is damage of the coded pixels, and raised.
"""

import io
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipelines.jpeg_markers import repair_segments

Picture = NDArray[np.uint8]

_JPEG: Final = b"\xff\xd8\xff"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_FLAGS: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_MAX_MENDS: Final = 2
"""Segments are put right once, and then zeros behind the coded pixels are taken away."""


class Decoded(NamedTuple):
    """Pixels of a photo as stored, not turned by EXIF."""

    pixels: Picture
    fault: str | None = None
    """What a strict decoder refuses in the file although its pixels are sound; None where nothing."""


def decode_photo(data: bytes, into: Picture | None = None) -> Decoded:
    """Bytes of a JPEG, PNG or WebP, known by content -> RGB HxWx3, in `into` if it is a JPEG of just its size.

    Raises ValueError or cv2.error where the pixels are not all there, or the format is another.
    """
    if data.startswith(_JPEG):
        return decode_jpeg(data, into=into)
    if not data.startswith(_PNG) and data[:4] + data[8:12] != b"RIFFWEBP":
        raise ValueError("neither JPEG nor PNG nor WebP")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    if pixels is None:
        raise ValueError("OpenCV cannot decode its pixels")
    return Decoded(np.asarray(pixels, np.uint8))


def check_ink(data: bytes) -> str | None:
    """Fault that a strict decoder finds in a JPEG of four channels although its coded pixels are sound, or None.

    Raises ValueError where they are damaged. Pillow, which knows how ink is meant, fills what is cut in silence.
    """
    return decode_jpeg(data, "CMYK", (1, 1)).fault


def decode_jpeg(
    data: bytes, colors: str = "RGB", at_least: tuple[int, int] = (0, 0), into: Picture | None = None
) -> Decoded:
    """Bytes of a JPEG -> HxWxC in `colors` (RGB, GRAY, CMYK); raises ValueError where its coded pixels are damaged.

    With `at_least` (width, height) it comes at 1/2, 1/4 or 1/8 of its size, the smallest that is not below; all coded
    pixels are read all the same.
    """
    fault = None
    for _ in range(_MAX_MENDS):
        try:
            return Decoded(_decode_strictly(data, colors, at_least, into), fault)
        except ValueError as refusal:
            mended = repair_segments(data, str(refusal))
            if mended == data:
                raise
            data, fault = mended, fault or str(refusal)
    return Decoded(_decode_strictly(data, colors, at_least, into), fault)


def _decode_strictly(data: bytes, colors: str, at_least: tuple[int, int], into: Picture | None) -> Picture:
    options: dict[str, Any] = {"min_width": at_least[0], "min_height": at_least[1]}
    if into is not None and simplejpeg.decode_jpeg_header(data)[:2] == into.shape[:2]:
        options["buffer"] = into
    return np.asarray(simplejpeg.decode_jpeg(data, colors, **options))


def decode_levels(data: bytes) -> Picture:
    """Bytes of a plane's PNG -> HxWxC as stored, C its channels (RGB order), HxWx1 if it is gray.

    Raises ValueError or cv2.error where it cannot be decoded, or holds other than 8 bits a channel.
    """
    plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data.startswith(_PNG) else None
    if plane is None or plane.dtype != np.uint8:
        raise ValueError("OpenCV cannot decode it as a PNG of 8 bits a channel")
    if plane.ndim == 2:
        return np.asarray(plane[:, :, None], np.uint8)
    return np.ascontiguousarray(plane[:, :, [2, 1, 0, 3][: plane.shape[2]]], np.uint8)


def find_fault(data: bytes, file_format: str) -> str | None:
    """What some reader refuses in a photo of 8-bit RGB or gray whose pixels are all sound, None where nothing.

    All coded pixels of a JPEG are read, but few are computed. Raises as `decode_photo` does.
    """
    smallest = (1, 1)
    fault = decode_jpeg(data, "GRAY", smallest).fault if file_format == "JPEG" else decode_photo(data).fault
    if fault is None:
        try:
            Image.open(io.BytesIO(data), formats=(file_format,)).close()
        except (OSError, SyntaxError, ValueError) as refusal:
            return f"Pillow cannot open the file ({type(refusal).__name__})"
    return fault
