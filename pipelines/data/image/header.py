"""Format, size and coding of a picture file from its first bytes, without decoding a pixel.

In: bytes of anything; file names play no part. Out: `Header`, or `Rejected`. It guards every decoder: a refusal costs
microseconds, however large the picture claims to be. Formats: JPEG (ITU-T T.81, EXIF 2.32), PNG (W3C, third edition),
WebP (RFC 9649), GIF89a, BMP and TIFF 6.0. Orientation comes from EXIF, in a JPEG from the first directory of all its
EXIF segments joined, as Pillow reads it; XMP is ignored. Of a JPEG with further pictures behind its first (stereo
pairs, gain maps) the first one counts. GIF, BMP and TIFF are parsed here, too: Pillow takes the size of a GIF from its
frames, names no reason for a damaged header, and needs 24 to 325 us where this takes 1 to 9.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pipelines.records import Rejected

_HUFFMAN_FRAMES: Final = (0xC0, 0xC1, 0xC2)
"""JPEG start-of-frame markers that every reader knows: baseline, extended and progressive with Huffman coding."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN: Final = 0xDA
_STANDALONE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_IMAGE_ENDS: Final = (0xD8, 0xD9)
_SEGMENT: Final = struct.Struct(">BBH").unpack_from
"""0xFF, marker, length, of a segment of a JPEG."""
_FRAME: Final = struct.Struct(">HBHHB").unpack_from
_MAX_SEGMENTS: Final = 10_000
_MAX_SCANS: Final = 500
_EXIF: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_GRAY, _PNG_RGB, _PNG_PALETTE = 0, 2, 3
_BYTE_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}


class Header(NamedTuple):
    """Facts in the header of a picture file."""

    format: str
    """A name of FORMATS."""
    width_px: int
    height_px: int
    """As stored, before it is turned upright."""
    plain: bool
    """Whether it holds 8-bit RGB or gray, in a coding that every reader knows, without transparency."""
    orientation: int = 1
    """EXIF orientation, 1 (upright) to 8."""
    channels: int = 0
    """Channels of a JPEG: 1 gray, 3 color, 4 ink."""
    bits: int = 8
    """Bits per channel of a PNG."""
    moving: bool = False
    """Whether a PNG or WebP holds several frames; the first bytes of GIF and TIFF do not state it."""
    pixels_at: int = 0
    """Offset of the coded pixels of a JPEG."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height once turned upright, px."""
        size = (self.width_px, self.height_px)
        return size if self.orientation < 5 else size[::-1]


def read_header(raw: bytes) -> Header | Rejected:
    """The header of a picture file, or the reason why it has no valid one."""
    if not raw:
        return Rejected("empty file")
    file_format = next((name for signature, name in _SIGNATURES if raw.startswith(signature)), None)
    if file_format is None:
        return Rejected(f"not an image of a known format ({', '.join(FORMATS)})")
    try:
        header = FORMATS[file_format](raw)
    except (IndexError, struct.error):
        return Rejected(f"cut or damaged: its {file_format} header ends early")
    except ValueError as fault:
        return Rejected(f"cut or damaged: {fault}")
    if header.width_px < 1 or header.height_px < 1:
        return Rejected(f"cut or damaged: its {file_format} header says {header.width_px}x{header.height_px} pixels")
    return header


def _read_jpeg(raw: bytes) -> Header:
    """The header of a JPEG, from its segments up to the first scan."""
    position, exif, frame = 2, b"", 0
    # Walk the segments; bytes between them and fill bytes are passed over.
    for _ in range(_MAX_SEGMENTS):
        start, marker, length = _SEGMENT(raw, position)
        if start != 0xFF or marker in _STANDALONE:
            position = _find_next_segment(raw, position)
            continue
        if marker == _START_OF_SCAN:
            break
        if marker == 0xFF:
            position += 1
            continue
        if length < 2:
            raise ValueError("a segment of its JPEG header is shorter than its own length")
        if marker in _FRAMES:
            frame = position if frame == 0 else -1
        elif marker == 0xE1 and raw.startswith(_EXIF, position + 4):
            exif += raw[position + 10 : position + 2 + length]
        position += 2 + length
    else:
        raise ValueError(f"no coded pixels behind {_MAX_SEGMENTS} segments of its JPEG header")
    if frame < 1:
        raise ValueError("its JPEG header describes no picture or several")
    return _read_jpeg_frame(raw, frame, _read_orientation(exif) if exif else 1, position)


def _find_next_segment(raw: bytes, position: int) -> int:
    """Offset where the next segment of a JPEG may begin behind stray bytes, which decoders skip, too."""
    alone = raw[position] == 0xFF
    if raw[position + 1] in _IMAGE_ENDS if alone else position == 2:  # other readers expect a signature here
        raise ValueError("bytes between the segments of its JPEG header")
    following = raw.find(b"\xff", position + 2 if alone else position)
    if following < 0:
        raise ValueError("no coded pixels behind its JPEG header")
    return following


def _read_jpeg_frame(raw: bytes, position: int, orientation: int, pixels_at: int) -> Header:
    """The header from the start-of-frame segment at `position`."""
    marker = raw[position + 1]
    length, bits, height, width, channels = _FRAME(raw, position + 2)
    if marker not in _HUFFMAN_FRAMES:
        raise ValueError(f"a lossless, hierarchical or arithmetic-coded JPEG (FF{marker:02X}), which few readers know")
    if bits != 8 or channels not in (1, 3, 4) or length != 8 + 3 * channels:
        raise ValueError(f"a JPEG of {channels} channels of {bits} bits, which few readers know")
    if marker == 0xC2 and raw.count(b"\xff\xda", pixels_at) > _MAX_SCANS:
        raise ValueError(f"a progressive JPEG of more than {_MAX_SCANS} scans")
    return Header("JPEG", width, height, channels < 4, orientation, channels, pixels_at=pixels_at)


def _read_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 where it has none from 1 to 8 or is damaged.

    Some writers repeat the signature of EXIF: Pillow skips the second, too.
    """
    try:
        for tag, value in _tags(exif.removeprefix(_EXIF)):
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except (struct.error, ValueError):
        pass
    return 1


def _tags(tiff: bytes) -> Iterator[tuple[int, int]]:
    """Yield integers of the first directory of a TIFF structure, as (tag, value)."""
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        raise ValueError("neither byte order of TIFF")
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    entry, long = struct.Struct(f"{order}HHIH"), struct.Struct(f"{order}I")
    for position in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, _, short = entry.unpack_from(tiff, position)
        if kind == 3:
            yield tag, short
        elif kind == 4:
            yield tag, long.unpack_from(tiff, position + 8)[0]


def _read_png(raw: bytes) -> Header:
    """The header of a PNG, from all its chunks."""
    length, kind, width, height, bits, color = struct.unpack_from(">I4sIIBB", raw, 8)
    if (length, kind) != (13, b"IHDR") or bits not in _PNG_DEPTHS.get(color, ()):
        raise ValueError("its IHDR chunk is invalid")
    orientation, moving, transparent, painted = 1, False, False, color != _PNG_PALETTE
    # Walk the chunks behind IHDR for palette, transparency, frames and EXIF.
    position = 33
    while position + 12 <= len(raw) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", raw, position)
        if kind == b"PLTE":
            painted = True
        elif kind == b"tRNS":
            transparent = True
        elif kind == b"acTL":
            moving = struct.unpack_from(">I", raw, position + 8)[0] > 1
        elif kind == b"eXIf":
            orientation = _read_orientation(raw[position + 8 : position + 8 + length])
        position += 12 + length
    if not painted:
        raise ValueError("a palette PNG without a palette")
    plain = bits == 8 and color in (_PNG_GRAY, _PNG_RGB) and not transparent
    return Header("PNG", width, height, plain, orientation, bits=bits, moving=moving)


def _read_webp(raw: bytes) -> Header:
    """The header of a WebP, from its first chunk, and from all chunks of an extended one."""
    if raw[8:12] != b"WEBP":
        raise ValueError("a RIFF file that is no WebP")
    kind = raw[12:16]
    if kind != b"VP8X":
        width, height, alpha = _read_webp_picture(raw, kind, 20)
        return Header("WEBP", width, height, not alpha)
    # Extended format: the canvas, then the chunks.
    size = 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    orientation, num_frames, alpha = 1, 0, raw[20] & 0x10 > 0
    for kind, start, length in _webp_chunks(raw):
        if kind == b"EXIF":
            exif = raw[start : start + length]
            orientation = _read_orientation(exif.removeprefix(_EXIF))
        elif kind in (b"VP8 ", b"VP8L"):
            *inner, clear = _read_webp_picture(raw, kind, start)
            if size != tuple(inner):
                raise ValueError("the canvas and the picture of its WebP header differ in size")
            alpha = alpha or clear
        num_frames += kind == b"ANMF"
    return Header("WEBP", size[0], size[1], not alpha and not num_frames, orientation, moving=num_frames > 1)


def _webp_chunks(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and length of the data of each chunk behind the VP8X chunk."""
    position = 30
    while position + 8 <= len(raw):
        kind, length = struct.unpack_from("<4sI", raw, position)
        yield kind, position + 8, length
        position += 8 + length + length % 2


def _read_webp_picture(raw: bytes, kind: bytes, start: int) -> tuple[int, int, bool]:
    """Width, height and whether it may be transparent, from a VP8 or VP8L bitstream."""
    if kind == b"VP8 " and raw[start + 3 : start + 6] == b"\x9d\x01\x2a" and not raw[start] & 1:
        width, height = struct.unpack_from("<HH", raw, start + 6)
        return width & 0x3FFF, height & 0x3FFF, False
    if kind == b"VP8L" and raw[start] == 0x2F:
        (bits,) = struct.unpack_from("<I", raw, start + 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bits >> 28 & 1 > 0
    raise ValueError("its WebP header begins no picture")


def _read_gif(raw: bytes) -> Header:
    width, height = struct.unpack_from("<HH", raw, 6)
    return Header("GIF", width, height, plain=False)


def _read_bmp(raw: bytes) -> Header:
    """The header of a BMP; a negative height means that the rows run from the top."""
    (length,) = struct.unpack_from("<I", raw, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", raw, 18)
    return Header("BMP", width, abs(height), plain=False)


def _read_tiff(raw: bytes) -> Header:
    tags = dict(_tags(raw))
    orientation = tags.get(_ORIENTATION, 1)
    return Header("TIFF", tags.get(256, 0), tags.get(257, 0), False, orientation if 1 <= orientation <= 8 else 1)


FORMATS: Final[dict[str, Callable[[bytes], Header]]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WEBP": _read_webp,
    "GIF": _read_gif,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
}
"""Formats that are read, by their names in Pillow."""
_SIGNATURES: Final = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF", "WEBP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
