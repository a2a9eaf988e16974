"""Files that attack or surprise a reader of pictures, by name; each with what becomes of it.

That is a piece of the reason why it is rejected, or a file of the pixels that it has when it is taken.
"""

import io
import random
import struct
import zipfile

import numpy as np
from PIL import Image, ImageCms, ImageOps

from tests.data.picture_files import chunk, encode, with_orientation
from tests.making import photo

Hostile = dict[str, tuple[bytes, str | bytes]]

JPEG, PNG, WEBP = (encode(photo(n), name) for n, name in ((1, "JPEG"), (2, "PNG"), (3, "WEBP")))
GIF, BMP, TIFF = encode(photo(4).quantize(64), "GIF"), encode(photo(5), "BMP"), encode(photo(6), "TIFF")
TURNED = encode(photo(7), "WEBP", exif=with_orientation(6))  # with a VP8X header
SMALL = encode(photo(9).resize((16, 16)), "JPEG", quality=30)
FIRST = encode(photo(1), "PNG")
PLACES = np.arange(64, dtype=np.uint8).reshape(8, 8)
WHOLE = {"jpeg": JPEG, "png": PNG, "webp": WEBP, "gif": GIF, "bmp": BMP, "tiff": TIFF}
NO_FORMAT, CUT = "not an image of a known format", "cut or damaged"


def flat(value: int) -> bytes:
    """A file of one gray."""
    return encode(Image.new("L", (40, 48), value), "PNG")


def segment(marker: int, data: bytes) -> bytes:
    """One segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def in_jpeg(*segments: bytes, raw: bytes = JPEG) -> bytes:
    """The JPEG with these segments at its beginning."""
    return raw[:2] + b"".join(segments) + raw[2:]


def in_png(*chunks: bytes, raw: bytes = PNG) -> bytes:
    """The PNG with these chunks behind its IHDR."""
    return raw[:33] + b"".join(chunks) + raw[33:]


def overwrite(raw: bytes, place: int, layout: str, *values: int) -> bytes:
    """The file with numbers written over a place."""
    changed = bytearray(raw)
    struct.pack_into(layout, changed, place, *values)
    return bytes(changed)


def claim_size(name: str, width: int, height: int) -> bytes:
    """The small file of a format whose header claims this size."""
    raw = WHOLE[name]
    if name == "jpeg":
        return overwrite(raw, raw.index(b"\xff\xc0") + 5, ">HH", height, width)
    if name == "png":
        ihdr = struct.pack(">II", width, height) + raw[24:29]
        return raw[:8] + chunk(b"IHDR", ihdr) + raw[33:]
    if name == "tiff":
        return overwrite(overwrite(raw, tag_at(256), "<HII", 4, 1, width), tag_at(257), "<HII", 4, 1, height)
    place, layout = {"webp": (26, "<HH"), "gif": (6, "<HH"), "bmp": (18, "<ii")}[name]
    return overwrite(raw, place, layout, width, height)


def tag_at(tag: int) -> int:
    """Where the type of a tag stands in TIFF."""
    return TIFF.index(struct.pack("<H", tag), struct.unpack_from("<I", TIFF, 4)[0] + 2) + 2


def sizes() -> Hostile:
    """Headers that claim absurd, empty and negative sizes."""
    files: Hostile = {}
    for name in WHOLE:
        large = 16383 if name == "webp" else 60000
        files[f"{name} of {large} squared"] = claim_size(name, large, large), f"{large}x{large} pixels are more than"
        files[f"{name} of no width"] = claim_size(name, 0, 48), CUT
        files[f"{name} of no height"] = claim_size(name, 40, 0), CUT
        files[f"{name} of one pixel"] = claim_size(name, 1, 1), "1x1 is smaller than 8 px"
        files[f"{name} of one row"] = claim_size(name, 40, 1), "40x1 is smaller than 8 px"
    for name in ("png", "tiff"):
        files[f"{name} of 2**32 - 1 squared"] = claim_size(name, 2**32 - 1, 2**32 - 1), "pixels are more than"
    files["bmp of negative width"] = claim_size("bmp", -40, 48), CUT
    files["bmp of the most negative height"] = claim_size("bmp", 40, -(2**31)), "pixels are more than"
    files["bmp taller than its pixels"] = claim_size("bmp", 40, 480), "cannot be decoded"
    files["bmp of 12 bytes header and no size"] = overwrite(BMP, 14, "<IHH", 12, 0, 0), CUT
    files["gif with a frame beyond its screen"] = claim_size("gif", 20, 20), "its header says 20x20"
    files["gif with a frame inside its screen"] = claim_size("gif", 60, 60), claim_size("gif", 60, 60)
    files["tiff taller than its pixels"] = claim_size("tiff", 40, 4800), "fewer rows than its header says"
    files["webp whose canvas is larger than its picture"] = overwrite(TURNED, 24, "<I", 99), "differ in size"
    files["webp canvas of 2**24 squared"] = TURNED[:24] + b"\xff" * 6 + TURNED[30:], "differ in size"
    return files


def foreign() -> Hostile:
    """What is no picture, or begins or ends as something else."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.txt", "hello")
    others = {"zip": sink.getvalue(), "html": b"<html><script>1</script></html>", "pdf": b"%PDF-1.7\n%%EOF\n"}
    files: Hostile = {"nothing": (b"", "empty file"), "text": (b"I am no picture\n" * 9, NO_FORMAT)}
    for other, data in others.items():
        files[other] = data, NO_FORMAT
        for name in ("jpeg", "png", "webp", "gif"):
            files[f"{other} before {name}"] = data + WHOLE[name], NO_FORMAT
            files[f"{other} behind {name}"] = WHOLE[name] + data, WHOLE[name]
    files["jpeg that is a zip"] = in_jpeg(segment(0xFE, others["zip"])) + others["zip"], JPEG
    files["svg"] = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", NO_FORMAT
    files["svg with entities"] = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc">]><svg>&b;</svg>', NO_FORMAT
    for brand in (b"heic", b"avif", b"mif1"):
        files[brand.decode()] = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0" + brand * 2 + bytes(99), NO_FORMAT
    files["jpeg 2000"] = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), NO_FORMAT
    files["jpeg xl"] = b"\xff\x0a" + bytes(99), NO_FORMAT
    files["postscript"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NO_FORMAT
    files["icon"] = encode(photo(1), "ICO"), NO_FORMAT
    files["portable pixmap"] = encode(photo(1), "PPM"), NO_FORMAT
    files["riff of sound"] = b"RIFF\x24\0\0\0WAVEfmt " + bytes(99), "a RIFF file that is no WebP"
    files["big tiff"] = b"II+\0\x08\0\0\0" + bytes(99), NO_FORMAT
    files["zeros"], files["ones"] = (bytes(9999), NO_FORMAT), (b"\xff" * 9999, NO_FORMAT)
    return files


def noise() -> Hostile:
    """The first bytes of each format, and then anything."""
    magics = {
        "jpeg": b"\xff\xd8\xff\xe0",
        "png": PNG[:8],
        "png with IHDR": PNG[:33],
        "webp": WEBP[:12],
        "webp with VP8": WEBP[:20],
        "gif": b"GIF89a",
        "bmp": b"BM",
        "tiff": b"II*\0",
        "big-endian tiff": b"MM\0*",
    }
    rng = random.Random(8)
    return {f"{name} and noise {n}": (magic + rng.randbytes(999), "") for name, magic in magics.items() for n in (1, 2)}


def others() -> Hostile:
    """WebP, GIF, BMP and TIFF."""
    moving = {name: encode(photo(1), name, save_all=True, append_images=[photo(99)]) for name in ("GIF", "WEBP")}
    pages = encode(photo(1), "TIFF", save_all=True, append_images=[photo(2)])
    wide = Image.fromarray(np.full((48, 40), 0.5, np.float32))
    deep = Image.fromarray(np.full((48, 40), 70_000, np.int32))
    return {
        "moving gif": (moving["GIF"], "animated or paged"),
        "moving webp": (moving["WEBP"], "animated or paged"),
        "paged tiff": (pages, "animated or paged"),
        "tiff of fractions": (encode(wide, "TIFF"), "whose range nobody knows"),
        "tiff of 32 bits": (encode(deep, "TIFF"), "whose range nobody knows"),
        "tiff in LAB": (encode(ImageCms.applyTransform(photo(1), _to_lab()) or photo(1), "TIFF"), FIRST),
        "tiff in CMYK": (encode(photo(1).convert("CMYK"), "TIFF"), FIRST),
        "tiff in YCbCr": (encode(photo(1).convert("YCbCr"), "TIFF"), FIRST),
        "tiff of no directory": (b"II*\0\0\0\0\0" + bytes(99), CUT),
        "tiff of a directory beyond its end": (b"II*\0\xff\xff\xff\x7f" + bytes(99), "header ends early"),
        "gif of no frame": (GIF[:13] + b"\x3b", "cannot be decoded"),
        "bmp from top to bottom": (claim_size("bmp", 40, -48), encode(ImageOps.flip(photo(5)), "PNG")),
        "bmp of 99 bits": (overwrite(BMP, 28, "<H", 99), "cannot be decoded"),
        "bmp whose pixels begin beyond its end": (overwrite(BMP, 10, "<I", 2**31), "cannot be decoded"),
        "webp shorter than it says": (overwrite(WEBP, 4, "<I", 2**31), "shorter than its header says"),
        "webp of zeros at its end": (WEBP[:-40] + bytes(40), "its tail is zeros"),
        "webp that begins no picture": (overwrite(WEBP, 23, "<B", 0), "begins no picture"),
        "webp of endless chunks": (TURNED[:30] + b"ABCD\0\0\0\0" * 50_000 + TURNED[30:], "cannot be decoded"),
        "webp with transparency": (encode(photo(1).convert("RGBA"), "WEBP", lossless=True), FIRST),
    }


def _to_lab() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
