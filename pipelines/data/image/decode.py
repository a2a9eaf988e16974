"""Decoding of picture files to upright 8-bit RGB or gray pixels, and encoding of pixels.

In: bytes with a valid header. Out: uint8 HxW or HxWx3 and lines that list the conversions. JPEG in gray or color is
decoded as the stream decodes it (`pipelines.decoding`), all else by Pillow; ink in a JPEG is read as Adobe stores it,
inverted, as browsers do. Faults are exceptions of any kind here; `normalize` turns them into reasons.
"""

import io
import warnings
from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from pipelines.data.image.header import Header
from pipelines.data.image.resize import Pixels
from pipelines.decoding import check_ink, decode_jpeg

_JPEG_QUALITY: Final = 95
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _WHITE_IS_ZERO = 258, 262, 281, 0
"""Tags of TIFF 6.0, and a value of the second."""
_DEPTHS: Final = tuple((1 << bits) - 1 for bits in range(9, 17))

Image.MAX_IMAGE_PIXELS = None  # the config's own limit is checked before any pixel is decoded


def decode_picture(
    raw: bytes, header: Header, at_least: tuple[int, int] | None = None, with_alpha: bool = False
) -> tuple[Pixels, list[str]]:
    """Upright pixels, HxW or HxWx3, and lines that list the conversions.

    With `at_least` (width, height) a JPEG comes at 1/2, 1/4 or 1/8 of its size, the smallest that is not below.
    `with_alpha`: HxWx4 where the file has transparency, colors as stored, instead of transparency on white.
    """
    turned = header.orientation != 1
    done = [f"turned upright from EXIF orientation {header.orientation}"] if turned else []
    if header.format == "JPEG" and header.channels < 4:
        pixels = _decode_jpeg(raw, header, _choose_scale(header, at_least), done)
    else:
        pixels = _decode_with_pillow(raw, header, done, with_alpha)
    return (turn_upright(pixels, header.orientation) if turned and header.format != "TIFF" else pixels), done


def format_tolerated_fault(fault: str) -> str:
    """Line about a fault for which some reader refuses the file, though no pixel depends on it."""
    return f"passed over: {fault}"


def _choose_scale(header: Header, at_least: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height as stored at which a JPEG is decoded, (0, 0) for all of it."""
    if at_least is None:
        return 0, 0
    for divisor in (8, 4, 2):  # only these are fast in libjpeg-turbo
        size = -(-header.width_px // divisor), -(-header.height_px // divisor)
        turned = size if header.orientation < 5 else size[::-1]
        if turned[0] >= at_least[0] and turned[1] >= at_least[1]:
            return size
    return 0, 0


def _decode_jpeg(raw: bytes, header: Header, scale: tuple[int, int], done: list[str]) -> Pixels:
    colors = "GRAY" if header.channels == 1 else "RGB"
    pixels, fault = decode_jpeg(raw, colors, scale)
    if fault is not None:
        done.append(format_tolerated_fault(fault))
    if b"ICC_PROFILE\0" in raw[: header.pixels_at]:
        done.append("colour profile dropped")
    if pixels.shape[:2] != (header.height_px, header.width_px):
        done.append(f"decoded at {pixels.shape[1]}x{pixels.shape[0]}, libjpeg-turbo")
    return pixels[:, :, 0] if header.channels == 1 else pixels


def _decode_with_pillow(raw: bytes, header: Header, done: list[str], with_alpha: bool) -> Pixels:
    """Pixels of any format that Pillow reads, checked against the header; conversions are added to `done`."""
    if header.format == "JPEG" and (fault := check_ink(raw)) is not None:
        done.append(format_tolerated_fault(fault))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(raw), formats=(header.format,)) as image:
            # Refuse pictures that differ from their header, in size or number of frames.
            if sorted(image.size) != sorted((header.width_px, header.height_px)):
                raise ValueError(f"its header says {header.width_px}x{header.height_px}, its pixels {image.size}")
            if getattr(image, "is_animated", False):
                raise ValueError("animated or paged")
            last_rows = [tile.extents[3] for tile in image.tile if tile.extents]
            if header.format == "TIFF" and max(last_rows, default=0) < header.height_px:
                raise ValueError("fewer rows than its header says")
            # Decode and convert the pixels.
            image.load()
            if header.bits != 8 and image.mode in ("RGB", "L"):
                done.append(f"{header.bits} bits a channel to 8")
            if image.info.get("icc_profile"):
                done.append("colour profile dropped")
            return np.asarray(_to_rgb(image, done, with_alpha))


def _to_rgb(image: Image.Image, done: list[str], with_alpha: bool) -> Image.Image:
    """The image in 8-bit RGB or gray: wide gray is scaled, transparency is laid on white, Pillow converts the rest.

    With `with_alpha` transparency stays, as RGBA.
    """
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode in ("RGB", "L") and not clear:
        return image
    if with_alpha and clear:
        return image.convert("RGBA")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range nobody knows")
    done.append(f"{image.mode} to RGB")
    if image.mode.startswith("I;16"):
        return Image.fromarray(_scale_to_8_bits(image, done)).convert("RGB")
    if clear:
        layer = image.convert("RGBA")
        done.append("transparency on white")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image, done: list[str]) -> Pixels:
    """Gray of 9 to 16 bits, HxW, as 8 bits: 255 is the largest value of its depth; in TIFF that may be black.

    A TIFF of 12 bits in words of 16 states its depth as MaxSampleValue (tag 281), which elsewhere is mere statistics.
    """
    tags, values = getattr(image, "tag_v2", {}), np.asarray(image).astype(np.uint32)
    most = (1 << int(np.max(tags.get(_BITS_PER_SAMPLE, 16)))) - 1
    named = int(np.max(tags.get(_MAX_SAMPLE_VALUE, most)))
    if named in _DEPTHS and values.max(initial=0) <= named:
        most = named
    if most != _DEPTHS[-1]:
        done.append(f"{most.bit_length()} bits to 8")
    levels = (values * 255 // most).astype(np.uint8)
    return 255 - levels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Pixels HxW or HxWxC turned upright from an EXIF orientation, 1 to 8.

    The orientation states on which sides row 0 and column 0 of the stored picture are seen (EXIF 2.32).
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _encode_png(pixels: Pixels) -> bytes:
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return cv2.imencode(".png", stored, settings)[1].tobytes()


def _encode_jpeg(pixels: Pixels) -> bytes:
    colors, layers = ("RGB", pixels) if pixels.ndim == 3 else ("GRAY", pixels[:, :, None])
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(layers), _JPEG_QUALITY, colors, "444"))


ENCODERS: Final[dict[str, tuple[str, str, Callable[[Pixels], bytes]]]] = {
    "png": ("png", "encoded PNG", _encode_png),
    "jpeg": ("jpg", f"encoded JPEG {_JPEG_QUALITY} 4:4:4", _encode_jpeg),
}
"""Suffix, line about the encoding, and the function from uint8 HxW or HxWx3 to a file."""
