"""Picture files of every kind for the tests of cleaning, with pixels that are known.

PNGs of depths that Pillow cannot write are made by hand.
"""

import io
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import normalize_photo
from pipelines.records import Rejected, Sample
from tests.making import photo

RECIPE = DatasetConfig("folder", min_side_px=8)
UNCHECKED = replace(RECIPE, decode_check=False)
EXIF_ORIENTATION, EXIF_X_RESOLUTION = 0x0112, 0x011A
Pixels = NDArray[np.uint8]


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The picture as a file of this format."""
    sink = io.BytesIO()
    image.save(sink, file_format, **options)
    return sink.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(width: int, height: int, depth: int, color_type: int, rows: bytes) -> bytes:
    """A PNG of any depth; `rows` are its lines, each behind its filter byte 0."""
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def normalize_whole(raw: bytes, recipe: DatasetConfig = RECIPE) -> Sample:
    """The sample of a file that has to become one."""
    sample = normalize_photo(raw, recipe)
    assert isinstance(sample, Sample), sample
    return sample


def find_rejection(raw: bytes, recipe: DatasetConfig = RECIPE) -> str:
    """The reason of a file that has to be rejected."""
    verdict = normalize_photo(raw, recipe)
    assert isinstance(verdict, Rejected), f"accepted, {getattr(verdict, 'normalised', None)}"
    return verdict.reason


def pixels(picture: bytes) -> Pixels:
    """RGB pixels of a stored picture as any reader sees them, uint8 HxWx3."""
    with Image.open(io.BytesIO(picture)) as image:
        assert image.mode in ("RGB", "L")
        return np.asarray(image.convert("RGB"))


def make_texture(number: int) -> Image.Image:
    """A photo with as much detail as real ones have, so that its file is long for its size."""
    noise = np.random.default_rng(number).integers(-40, 41, (48, 40, 3))
    return Image.fromarray((np.asarray(photo(number)) + noise).clip(0, 255).astype(np.uint8))


def with_orientation(orientation: int) -> Image.Exif:
    """EXIF data with this orientation."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return exif


WHOLE = {
    "jpeg": encode(photo(1), "JPEG", quality=90),
    "jpeg-progressive": encode(photo(2), "JPEG", progressive=True),
    "jpeg-gray": encode(photo(3).convert("L"), "JPEG"),
    "png": encode(photo(4), "PNG"),
    "png-gray": encode(photo(5).convert("L"), "PNG"),
    "webp": encode(photo(6), "WEBP"),
    "webp-lossless": encode(photo(7), "WEBP", lossless=True),
}
OTHER = {
    "gif": encode(photo(1).quantize(200), "GIF"),
    "bmp": encode(photo(2), "BMP"),
    "tiff": encode(photo(3), "TIFF"),
    "tiff-lzw": encode(photo(4), "TIFF", compression="tiff_lzw"),
    "palette": encode(photo(5).quantize(200), "PNG"),
    "black and white": encode(photo(6).convert("1"), "PNG"),
    "rgba": encode(photo(7).convert("RGBA"), "PNG"),
    "gray with alpha": encode(photo(8).convert("LA"), "PNG"),
    "16 bit": encode(Image.fromarray(np.asarray(photo(9).convert("L")).astype(np.uint16) * 257), "PNG"),
    "cmyk": encode(photo(10).convert("CMYK"), "JPEG"),
    "turned": encode(photo(11), "JPEG", exif=with_orientation(6)),
}
SUFFIX = {"jpeg": "jpg", "png": "png", "webp": "webp"}
