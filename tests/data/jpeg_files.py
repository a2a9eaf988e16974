"""JPEGs of every structure, and what may stand in them without changing a pixel, for the tests of decoding."""

import io
import struct
from collections.abc import Callable
from typing import Final

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.data.hostile_files import segment
from tests.data.picture_files import Pixels, encode, make_texture

Change = Callable[[bytes], bytes]
SCAN: Final = b"\xff\xda"
END: Final = b"\xff\xd9"


def decode_with_pillow(raw: bytes) -> Pixels:
    """The file as webdataset's decoder shows it: by Pillow, as RGB, not turned."""
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(image.convert("RGB"))


def at_once(raw: bytes, *segments: bytes) -> bytes:
    """The JPEG with further segments behind its first one."""
    place = 4 + int.from_bytes(raw[4:6], "big")
    return raw[:place] + b"".join(segments) + raw[place:]


def without_jfif(raw: bytes) -> bytes:
    """The JPEG without its JFIF segment, where that stands first, so that Adobe's decides of its colors."""
    rest = raw[4 + int.from_bytes(raw[4:6], "big") :]
    return raw[:2] + rest if raw[3] == 0xE0 and rest[0] == 0xFF else raw


def adobe(transform: int) -> bytes:
    """Adobe's segment with this transform."""
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def with_scan_parameters(raw: bytes, parameters: bytes) -> bytes:
    """The JPEG whose scans name these coefficients."""
    parts = raw.split(SCAN)
    changed = [part[: (n := part[1]) - 3] + parameters + part[n:] for part in parts[1:]]
    return SCAN.join([parts[0], *changed])


def in_three_scans() -> bytes:
    """A baseline JPEG whose channels have a scan each, made of three gray ones."""
    layers = [encode(layer, "JPEG", quality=90) for layer in make_texture(5).convert("YCbCr").split()]
    frame = layers[0].index(b"\xff\xc0")
    height, width = struct.unpack_from(">HH", layers[0], frame + 5)
    channels = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    whole = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + channels)
    scans = [segment(0xDA, bytes([1, n, 0, 0, 63, 0])) + cut_scan(layer) for n, layer in enumerate(layers, 1)]
    tables = layers[0][frame + 2 + 11 : layers[0].index(SCAN)]
    return b"".join((layers[0][:frame], whole, tables, *scans, END))


def cut_scan(raw: bytes) -> bytes:
    start = raw.index(SCAN)
    return raw[start + 2 + raw[start + 3] : -2]


SEQUENTIAL: Final = {
    "colors 4:2:0": encode(make_texture(1), "JPEG", quality=90),
    "colors 4:4:4": encode(make_texture(2), "JPEG", subsampling=0),
    "gray": encode(make_texture(3).convert("L"), "JPEG"),
    "restarts": encode(make_texture(4), "JPEG", restart_marker_blocks=2),
    "a scan a channel": in_three_scans(),
    "optimized": encode(make_texture(6), "JPEG", optimize=True),
}
PROGRESSIVE: Final = {
    "progressive": encode(make_texture(7), "JPEG", progressive=True),
    "progressive gray": encode(make_texture(8).convert("L"), "JPEG", progressive=True),
}
JPEGS: Final = SEQUENTIAL | PROGRESSIVE


def _profile(parts: list[tuple[int, int]]) -> Change:
    segments = [segment(0xE2, b"ICC_PROFILE\0" + bytes(numbers) + bytes(20)) for numbers in parts]
    return lambda raw: at_once(raw, *segments)


def _of_revision(major: int) -> Change:
    return lambda raw: raw[:11] + bytes([major]) + raw[12:] if raw[3] == 0xE0 else raw


def _with_adobe(transform: int) -> Change:
    return lambda raw: at_once(raw, adobe(transform))


def _with_parameters(parameters: bytes) -> Change:
    return lambda raw: raw if b"\xff\xc2" in raw else with_scan_parameters(raw, parameters)


def _with_bytes_between(junk: bytes) -> Change:
    return lambda raw: at_once(raw, junk)


def _with_padding(count: int) -> Change:
    return lambda raw: raw[:-2] + bytes(count) + END


BYTE = st.integers(0, 255)
NO_MARKER = st.binary(min_size=1, max_size=9).map(lambda data: data.replace(b"\xff", b"\0"))
HARMLESS: Final = st.one_of(
    st.lists(st.tuples(BYTE, BYTE), min_size=1, max_size=3).map(_profile),
    BYTE.map(_with_adobe),
    BYTE.map(_of_revision),
    st.binary(min_size=3, max_size=3).map(_with_parameters),
    st.integers(1, 9).map(lambda count: _with_bytes_between(b"\xff" * count)),
    NO_MARKER.map(_with_bytes_between),
    st.sampled_from([b"\xff\0", b"\xff\xd3"]).map(_with_bytes_between),
    st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=40)).map(
        lambda part: _with_bytes_between(segment(part[0], part[1]))
    ),
    st.integers(1, 40).map(_with_padding),
    st.just(without_jfif),
)
"""Changes of a JPEG that cost no pixel, though readers may warn of them."""
