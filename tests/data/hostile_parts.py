"""Hostile files whose parts are odd: the segments of a JPEG, EXIF data, the chunks of a PNG."""

import struct
import zlib

from PIL import Image, ImageCms

from tests.data.hostile_files import CUT, JPEG, PLACES, PNG, SMALL, Hostile, flat, in_jpeg, in_png, overwrite, segment
from tests.data.picture_files import chunk, encode, raw_png
from tests.making import photo


def jpegs() -> Hostile:
    """JPEGs with odd segments."""
    frame, scan = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
    lossless, hierarchical, arithmetic = (overwrite(JPEG, frame + 1, ">B", m) for m in (0xC3, 0xC5, 0xC9))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    two = struct.pack(">BHHB", 8, 48, 40, 2) + bytes([1, 0x11, 0, 2, 0x11, 0])
    return {
        "jpeg of a zero-length segment": (in_jpeg(b"\xff\xe1\0\0"), "shorter than its own length"),
        "jpeg of a one-byte segment": (in_jpeg(b"\xff\xe1\0\1"), "shorter than its own length"),
        "jpeg of an empty segment": (in_jpeg(segment(0xE1, b"")), JPEG),
        "jpeg of endless segments": (b"\xff\xd8" + segment(0xE5, b"") * 50_000, "no coded pixels"),
        "jpeg of endless fill": (b"\xff\xd8" + b"\xff" * 500_000, "no coded pixels"),
        "jpeg of some fill": (in_jpeg(b"\xff\xff\xff" + segment(0xE5, b"")), JPEG),
        "jpeg of a segment beyond its end": (JPEG[:2] + b"\xff\xe1\xff\xff" + JPEG[2:50], CUT),
        "jpeg of bytes between segments": (in_jpeg(b"junk"), "bytes between the segments"),
        "jpeg that ends before it begins": (in_jpeg(b"\xff\xd9"), "bytes between the segments"),
        "jpeg of no frame": (JPEG[:frame] + JPEG[scan:], "describes no picture"),
        "jpeg of two frames": (in_jpeg(JPEG[frame : frame + 19]), "describes no picture or several"),
        "jpeg of no scan": (JPEG[:scan], "header ends early"),
        "jpeg of no end": (JPEG[:-2], "no end marker"),
        "jpeg of 12 bits": (overwrite(JPEG, frame + 4, ">B", 12), "3 channels of 12 bits"),
        "jpeg of two channels": (JPEG[:frame] + segment(0xC0, two) + JPEG[frame + 19 :], "2 channels of 8 bits"),
        "jpeg of a frame cut short": (overwrite(JPEG, frame + 2, ">H", 8), "3 channels of 8 bits"),
        "lossless jpeg": (lossless, "FFC3"),
        "hierarchical jpeg": (hierarchical, "FFC5"),
        "arithmetic-coded jpeg": (arithmetic, "FFC9"),
        "progressive arithmetic-coded jpeg": (overwrite(JPEG, frame + 1, ">B", 0xCA), "FFCA"),
        "progressive jpeg": (encode(photo(1), "JPEG", progressive=True), JPEG),
        "progressive jpeg of 501 scans": (_many_scans(501), "more than 500 scans"),
        "jpeg with restart markers": (encode(photo(1), "JPEG", restart_marker_blocks=2), JPEG),
        "jpeg with a color profile": (encode(photo(1), "JPEG", icc_profile=profile), JPEG),
        "jpeg with a broken color profile": (in_jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(99))), JPEG),
        "jpeg with a thumbnail of its own end": (in_jpeg(segment(0xE1, b"Exif\0\0" + SMALL)), JPEG),
        "cut jpeg with a whole thumbnail": (in_jpeg(segment(0xE1, b"Exif\0\0" + SMALL))[:-99], "no end marker"),
        "jpeg with a second picture": (encode(photo(1), "MPO", save_all=True, append_images=[photo(2)]), JPEG),
        "jpeg of a long comment": (in_jpeg(*[segment(0xFE, bytes(65_000))] * 20), JPEG),
    }


def _many_scans(count: int) -> bytes:
    raw = encode(photo(1), "JPEG", progressive=True)
    last = raw.rindex(b"\xff\xda")
    return raw[:last] + raw[last:-2] * count + raw[-2:]


def exifs() -> Hostile:
    """EXIF data that lies: whatever it says, the photo is upright."""
    entry = struct.Struct("<HHII")
    start = b"II*\0\x08\0\0\0"
    bodies = {
        "empty": b"",
        "half": start[:6],
        "of no byte order": b"XX*\0" + bytes(99),
        "that begins beyond its end": b"II*\0\xff\xff\xff\xff",
        "of 65535 tags": start + b"\xff\xff" + entry.pack(1, 3, 1, 0) * 5,
        "of a directory that is its own": start + struct.pack("<H", 1) + entry.pack(0x8769, 4, 1, 8) + b"\x08\0\0\0",
        "of orientation 0": start + struct.pack("<H", 1) + entry.pack(0x0112, 3, 1, 0),
        "of orientation 9": start + struct.pack("<H", 1) + entry.pack(0x0112, 3, 1, 9),
        "of orientation in text": start + struct.pack("<H", 1) + entry.pack(0x0112, 2, 1, 6),
        "of four billion values": start + struct.pack("<H", 1) + entry.pack(0x010E, 2, 2**32 - 1, 26),
    }
    files: Hostile = {
        f"jpeg exif {name}": (in_jpeg(segment(0xE1, b"Exif\0\0" + b)), JPEG) for name, b in bodies.items()
    }
    return files | {f"png exif {name}": (in_png(chunk(b"eXIf", b)), PNG) for name, b in bodies.items()}


def pngs() -> Hostile:
    """PNGs with odd chunks."""
    bomb = zlib.compress(bytes(50_000_000), 9)
    rows16 = b"".join(b"\0" + bytes(40 * 6) for _ in range(48))
    header = struct.pack(">IIBBBBB", 40, 48, 8, 2, 0, 0, 0)
    no_data = PNG[:8] + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    return {
        "png of a zTXt bomb": (in_png(chunk(b"zTXt", b"a\0\0" + bomb)), "unpacks to more than"),
        "png of an iTXt bomb": (in_png(chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)), "unpacks to more than"),
        "png of an iCCP bomb": (in_png(chunk(b"iCCP", b"a\0\0" + bomb)), "unpacks to more than"),
        "transparent png of a zTXt bomb": (
            in_png(chunk(b"zTXt", b"a\0\0" + bomb), raw=_transparent()),
            "unpacks to more than",
        ),
        "png of a chunk of 2**31 bytes": (in_png(struct.pack(">I4s", 2**31, b"teXt")), CUT),
        "png of a chunk of 2**32 - 1 bytes": (in_png(struct.pack(">I4s", 2**32 - 1, b"teXt")), CUT),
        "png of a chunk too short": (overwrite(PNG, 33, ">I", 3), CUT),
        "png of a wrong checksum": (overwrite(PNG, 29, ">I", 1), "chunk b'IHDR' is damaged"),
        "png of endless empty chunks": (in_png(chunk(b"teXt", b"") * 100_000), PNG),
        "png of no IHDR": (PNG[:8] + PNG[33:], "IHDR chunk is invalid"),
        "png of 3 bits": (PNG[:8] + chunk(b"IHDR", header[:8] + b"\3\0\0\0\0") + PNG[33:], "IHDR chunk is invalid"),
        "png of color type 5": (PNG[:8] + chunk(b"IHDR", header[:8] + b"\10\5\0\0\0") + PNG[33:], "IHDR chunk is"),
        "png of 16 bits": (raw_png(40, 48, 16, 2, rows16), flat(0)),
        "png of 16 bits cut": (raw_png(40, 48, 16, 2, rows16[:999]), "cannot be decoded"),
        "palette png of no palette": (raw_png(40, 48, 8, 3, bytes(41 * 48)), "without a palette"),
        "palette png of transparency": (encode(photo(1).quantize(9), "PNG", transparency=bytes(9)), flat(255)),
        "moving png": (encode(photo(1), "PNG", save_all=True, append_images=[photo(2)]), "animated or paged"),
        "png that claims to move": (in_png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), "animated or paged"),
        "interlaced png": (_interlace(), encode(Image.fromarray(PLACES), "PNG")),
        "palette png without data": (no_data[:25] + b"\3" + no_data[26:], CUT),
    }


def _transparent() -> bytes:
    return encode(photo(2).convert("RGBA"), "PNG")


def _interlace() -> bytes:
    """All seven passes of Adam7 of a gray 8x8, each pixel its place."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in PLACES[y::dy, x::dx])
    ihdr = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    return PNG[:8] + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
