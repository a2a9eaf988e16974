"""From the bytes of a file to a sample, or to the reason why it is none.

In: bytes of anything. Out: `Sample` with upright 8-bit RGB or grey pixels, or `Rejected`. The header is looked at
first, so that a picture of absurd size is never decoded. Bytes that already are what we want are kept as they are.
"""

import io
import warnings
from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.data.recipe import ShardRecipe
from pipelines.data.wholeness import missing_part
from pipelines.records import Rejected, Sample

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_KEPT: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_EXIF_ORIENTATION: Final = 0x0112
_PNG_BIT_DEPTH: Final = 24  # its place in the file

Image.MAX_IMAGE_PIXELS = None  # the recipe's own limit is checked below, before any pixel is decoded


def clean(raw: bytes, recipe: ShardRecipe) -> Sample | Rejected:
    """The sample that the file becomes under this recipe, or why it becomes none."""
    if not raw:
        return Rejected("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                return _refusal(raw, image, recipe) or _sample(raw, image, recipe)
    except Exception as fault:  # noqa: BLE001 - hostile files make Pillow raise anything; none may stop a build
        return Rejected(_reason(fault))


def _reason(fault: Exception) -> str:
    if isinstance(fault, UnidentifiedImageError):
        return f"not an image of a known format ({', '.join(_FORMATS)})"
    return f"cannot be decoded: {type(fault).__name__}: {str(fault)[:120]}"


def _refusal(raw: bytes, image: Image.Image, recipe: ShardRecipe) -> Rejected | None:
    width, height = image.size
    if width * height > recipe.max_pixels:
        return Rejected(f"{width}x{height} pixels are more than {recipe.max_pixels}")
    if min(width, height) < recipe.min_side_px:
        return Rejected(f"{width}x{height} is smaller than {recipe.min_side_px} px on a side")
    if getattr(image, "n_frames", 1) > 1:
        return Rejected(f"animated or paged: {getattr(image, 'n_frames', 0)} frames")
    missing = missing_part(raw, str(image.format))
    return Rejected(f"cut or damaged: {missing}") if missing else None


def _sample(raw: bytes, image: Image.Image, recipe: ShardRecipe) -> Sample:
    """The photo with kept bytes where they serve, else normalised, and as PNG."""
    done = list(_peculiarities(raw, image))
    image.load()  # decodes all of it: a cut file is noticed here
    suffix = _KEPT.get(str(image.format))
    plain = not done and image.mode in ("RGB", "L") and "transparency" not in image.info
    if suffix and plain and recipe.short_side_px is None:
        return Sample(raw, suffix, *image.size, normalised=())
    if image.info.get("icc_profile"):
        done.append("colour profile dropped")
    upright = ImageOps.exif_transpose(image)
    image = _resized(_to_rgb(upright, done), recipe.short_side_px, done)
    sink = io.BytesIO()
    image.save(sink, "PNG", compress_level=6, icc_profile=None)
    return Sample(sink.getvalue(), "png", *image.size, normalised=(*done, "png"))


def _peculiarities(raw: bytes, image: Image.Image) -> Iterator[str]:
    """What decoding alone puts right, named: it must be asked before, Pillow forgets it in decoding."""
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in (0, 1):
        yield f"turned upright from EXIF orientation {orientation}"
    if image.format == "PNG" and image.mode in ("RGB", "L") and raw[_PNG_BIT_DEPTH] != 8:
        yield f"{raw[_PNG_BIT_DEPTH]} bits a channel to 8"


def _to_rgb(image: Image.Image, done: list[str]) -> Image.Image:
    """8-bit RGB or grey: wide grey is scaled, transparency is laid on white, the rest is converted by Pillow."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    done.append(f"{image.mode} to RGB")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        scale = 257 if image.mode != "I" or wide.max(initial=0) > 255 else 1  # mode I may hold 8 bits or 16
        return Image.fromarray((wide.clip(0, 65535) // scale).astype(np.uint8), "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        done.append("transparency on white")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _resized(image: Image.Image, short_side_px: int | None, done: list[str]) -> Image.Image:
    """Reduced so that the short side has this length, by Pillow's box-antialiased bicubic; never enlarged."""
    if short_side_px is None or min(image.size) <= short_side_px:
        return image
    done.append(f"short side {min(image.size)} to {short_side_px} px, bicubic")
    scale = short_side_px / min(image.size)
    size = (max(short_side_px, round(image.width * scale)), max(short_side_px, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)
