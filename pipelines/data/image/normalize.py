"""Normalization of a file to a sample, or the reason to reject it; and of the planes beside it.

In: bytes of anything. Out: `Sample` with upright 8-bit RGB or gray pixels, or `Rejected`. The header is read first, so
that a picture of absurd size is never decoded. Bytes that need no change are kept; by default they are decoded once, to
find damaged pixels here and not in a training. Intact photos in files that some reader refuses are stored as PNG.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import cv2
from PIL import Image

from pipelines.data.config import DatasetConfig
from pipelines.data.image.decode import ENCODERS, decode_picture, format_tolerated_fault
from pipelines.data.image.header import Header, read_header
from pipelines.data.image.resize import Pixels, Resize, check_resize, plan_resize, resize_photo
from pipelines.data.image.truncation import find_missing_part
from pipelines.decoding import decode_levels, decode_photo, find_fault
from pipelines.records import Rejected, Sample, UsageError, sha256_hex

DUPLICATES: Final = ("bytes", "pixels")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
_KEPT: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def check_normalization(config: DatasetConfig) -> None:
    """Raise UsageError for an unknown encoder, resize policy or kind of duplicates."""
    check_resize(config)
    if config.duplicates not in DUPLICATES:
        raise UsageError(f"unknown duplicates {config.duplicates!r}: use one of {', '.join(DUPLICATES)}")
    if config.encode not in ENCODERS:
        raise UsageError(f"unknown encode {config.encode!r}: use one of {', '.join(ENCODERS)}")


def normalize_photo(raw: bytes, config: DatasetConfig) -> Sample | Rejected:
    """Sample of the file under this config, or the reason to reject it."""
    # Refuse by the header.
    header = _accept_header(raw, config)
    if isinstance(header, Rejected):
        return header
    resize = plan_resize(config, *header.upright_size)
    if isinstance(resize, Rejected):
        return resize
    # Keep the file, or decode and encode it.
    try:
        if resize is None and header.plain and header.orientation == 1:
            fault = find_fault(raw, header.format) if config.decode_check else None
            if fault is not None:
                return _encode_again(raw, header, None, config, format_tolerated_fault(fault))
            return Sample(raw, _KEPT[header.format], header.width_px, header.height_px, ())
        return _encode_again(raw, header, resize, config)
    except Exception as fault:  # noqa: BLE001 - hostile files make decoders raise anything; none may stop a build
        return Rejected(_format_reason(fault))


def read_pixels(
    raw: bytes, config: DatasetConfig, with_alpha: bool = False
) -> tuple[Pixels, tuple[str, ...]] | Rejected:
    """Pixels, uint8 HxW or HxWx3, of the file as a sample, and the list of conversions; or the reason to reject it.

    Equal to decoding the sample of `normalize_photo` without a resize, but nothing is encoded in between.
    `with_alpha`: HxWx4 where the file has transparency.
    """
    header = _accept_header(raw, config)
    if isinstance(header, Rejected):
        return header
    try:
        if header.plain and header.orientation == 1:
            pixels, fault = decode_photo(raw)
            return pixels, (format_tolerated_fault(fault),) if fault else ()
        pixels, done = decode_picture(raw, header, with_alpha=with_alpha)
    except Exception as fault:  # noqa: BLE001 - as above
        return Rejected(_format_reason(fault))
    return pixels, tuple(dict.fromkeys(done))


@contextmanager
def name_memory_faults(path: str) -> Iterator[None]:
    """Add the path of the file to a MemoryError, which stops the build after a retry."""
    try:
        yield
    except MemoryError as fault:
        raise MemoryError(
            f"the memory of the task is not enough for {path} ({str(fault) or 'no more available'}): run the same "
            "command again with fewer tasks a machine, or with a smaller --max-pixels for another --out"
        ) from None


def hash_pixels(raw: bytes, config: DatasetConfig) -> str | None:
    """SHA-256 over size and upright RGB pixels of a file, None for a file that is rejected."""
    pixels = read_upright_pixels(raw, config)
    if pixels is None:
        return None
    in_color = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels
    return sha256_hex(b"%dx%d\n" % in_color.shape[:2] + in_color.tobytes())


def read_upright_pixels(raw: bytes, config: DatasetConfig) -> Pixels | None:
    """Pixels, uint8 HxW or HxWx3, of a file, None for a file that is rejected."""
    header = _accept_header(raw, config)
    if isinstance(header, Rejected):
        return None
    try:
        return decode_picture(raw, header)[0]
    except Exception as fault:  # noqa: BLE001 - as above; it is rejected later, with the reason
        _raise_memory_error(fault)
        return None


def _accept_header(raw: bytes, config: DatasetConfig) -> Header | Rejected:
    """Header of a whole picture whose size suits the config, or the reason to reject it."""
    header = read_header(raw)
    if isinstance(header, Rejected):
        return header
    width, height = header.upright_size
    if width * height > config.max_pixels:
        return Rejected(f"{width}x{height} pixels are more than {config.max_pixels}")
    if min(width, height) < config.min_side_px:
        return Rejected(f"{width}x{height} is smaller than {config.min_side_px} px on a side")
    if header.moving:
        return Rejected("animated or paged")
    missing = find_missing_part(raw, header)
    return Rejected(f"cut or damaged: {missing}") if missing else header


def _encode_again(raw: bytes, header: Header, resize: Resize | None, config: DatasetConfig, *before: str) -> Sample:
    """Sample of the photo decoded, turned upright, resized and encoded; `before`: lines that come first in its list."""
    size = header.upright_size
    pixels, done = decode_picture(raw, header, resize.at_least(size) if resize and config.scaled_decode else None)
    if resize:
        pixels, more = resize_photo(pixels, resize.within(size, (pixels.shape[1], pixels.shape[0])))
        done += more
    suffix, line, encode = ENCODERS[config.encode]
    steps = tuple(dict.fromkeys((*before, *done, line)))
    return Sample(encode(pixels), suffix, pixels.shape[1], pixels.shape[0], steps)


def _format_reason(fault: Exception) -> str:
    """Reason to reject a file for a fault of its decoder; raises MemoryError where the machine is at fault."""
    _raise_memory_error(fault)
    kind = "" if type(fault) is ValueError else f"{type(fault).__name__}: "
    text = _ADDRESS.sub("", str(fault))  # reasons stand in tables: the same in every build
    return f"cannot be decoded: {kind}{text[:120]}"


def _raise_memory_error(fault: Exception) -> None:
    """Raise MemoryError where the fault means that: tables must not depend on how busy a machine is."""
    if (
        isinstance(fault, MemoryError)
        or getattr(fault, "code", None) == cv2.Error.StsNoMem
        or "Insufficient memory" in str(fault)  # libjpeg; Pillow's -9 means hostile TIFF files, too
    ):
        raise MemoryError(str(fault)) from None


def normalize_plane(raw: bytes, photo: bytes, config: DatasetConfig) -> bytes | Rejected:
    """PNG of a plane (segmentation, edges) that fits the sample of its `photo`, or the reason to reject it.

    Its bytes are kept, or it is cropped and resized like the photo by Pillow's nearest neighbor, so that no value is
    new.
    """
    # Refuse by the headers of both files.
    plane, owner = read_header(raw), read_header(photo)
    if isinstance(plane, Rejected) or isinstance(owner, Rejected):
        return plane if isinstance(plane, Rejected) else Rejected("its photo is rejected")
    resize = plan_resize(config, *owner.upright_size)
    refusal = _find_plane_refusal(raw, plane, owner)
    if refusal or isinstance(resize, Rejected):
        return Rejected(refusal or "its photo is rejected")
    # Keep or resize the plane.
    try:
        if config.decode_check and not resize:
            decode_levels(raw)
        return _resize_plane(raw, resize) if resize else raw
    except Exception as fault:  # noqa: BLE001 - as above
        return Rejected(_format_reason(fault))


def _find_plane_refusal(raw: bytes, plane: Header, owner: Header) -> str | None:
    size, photo = (plane.width_px, plane.height_px), (owner.width_px, owner.height_px)
    if plane.format != "PNG" or plane.bits != 8 or plane.moving:
        return "not a PNG of 8 bits a channel and one picture"
    if size != photo:
        return f"{size[0]}x{size[1]}, its photo {photo[0]}x{photo[1]}: a plane has the size of its photo"
    if owner.orientation != 1:
        return f"its photo is turned by EXIF orientation {owner.orientation}: nobody knows whether the plane is too"
    missing = find_missing_part(raw, plane)
    return f"cut or damaged: {missing}" if missing else None


def _resize_plane(raw: bytes, resize: Resize) -> bytes:
    box = (resize.left, resize.top, resize.left + resize.width, resize.top + resize.height)
    with Image.open(io.BytesIO(raw), formats=["PNG"]) as image:
        small = image.crop(box).resize((resize.to_width, resize.to_height), Image.Resampling.NEAREST)
        sink = io.BytesIO()
        small.save(sink, "PNG", compress_level=6)
    return sink.getvalue()
