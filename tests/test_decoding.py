"""Decoding: what the build takes the stream delivers, with the pixels that Pillow shows; what is cut is refused."""

import random
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.data.config import DatasetConfig
from pipelines.data.image.normalize import normalize_photo
from pipelines.decoding import decode_jpeg, decode_photo, find_fault
from pipelines.jpeg_markers import segments
from pipelines.records import CorruptDataError, Rejected, Sample
from pipelines.stream.geometry import decode
from tests.data.hostile_files import overwrite, segment
from tests.data.jpeg_files import (
    END,
    HARMLESS,
    JPEGS,
    PROGRESSIVE,
    SCAN,
    SEQUENTIAL,
    Change,
    adobe,
    at_once,
    decode_with_pillow,
    with_scan_parameters,
    without_jfif,
)
from tests.data.picture_files import RECIPE, UNCHECKED, WHOLE, encode, find_rejection, make_texture, normalize_whole
from tests.making import photo

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what is looked at here
NAMES = st.sampled_from(sorted(JPEGS))
PLAIN = JPEGS["colors 4:2:0"]
ODD = {
    "profile of wrong numbers": at_once(PLAIN, segment(0xE2, b"ICC_PROFILE\0\5\2" + bytes(9))),
    "profile of two first parts": at_once(PLAIN, *[segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(9))] * 2),
    "adobe transform of ink": at_once(without_jfif(PLAIN), adobe(2)),
    "adobe transform unknown": at_once(without_jfif(PLAIN), adobe(77)),
    "scan parameters of zero": with_scan_parameters(PLAIN, bytes(3)),
    "bytes between segments": at_once(PLAIN, b"junk"),
    "zeros behind the pixels": PLAIN[:-2] + bytes(7) + END,
    "revision of JFIF unknown": overwrite(PLAIN, 11, ">B", 9),
    "all at once": at_once(with_scan_parameters(PLAIN, b"\1\2\3"), adobe(9), b"\0" * 3)[:-2] + bytes(5) + END,
}


@pytest.mark.parametrize("name", ODD)
def test_a_sound_photo_that_a_strict_reader_refuses_becomes_a_png_of_its_pixels(name: str) -> None:
    sample = normalize_whole(ODD[name])
    assert sample.suffix == "png"
    assert sample.normalised[0].startswith("passed over: ")
    assert np.array_equal(decode(sample.picture, "key"), decode_with_pillow(ODD[name]))


@pytest.mark.parametrize("name", ODD)
def test_the_stream_reads_such_a_photo_of_a_dataset_whose_pixels_were_not_checked(name: str) -> None:
    kept = normalize_whole(ODD[name], UNCHECKED)
    into = np.empty((48, 40, 3), np.uint8)
    assert kept.picture == ODD[name]
    assert np.array_equal(decode(kept.picture, "key", into), decode_with_pillow(ODD[name]))
    assert np.array_equal(into, decode_with_pillow(ODD[name]))


@given(NAMES, st.lists(HARMLESS, min_size=1, max_size=3))
@settings(max_examples=300)
def test_what_changes_no_pixel_is_streamed_with_pillows_pixels(name: str, changes: list[Change]) -> None:
    raw = JPEGS[name]
    for change in changes:
        raw = change(raw)
    try:
        expected = decode_with_pillow(raw)
    except OSError:
        reject()  # some of them together are a marker that Pillow does not pass over
    for recipe in (RECIPE, UNCHECKED):
        sample = normalize_whole(raw, recipe)
        assert np.array_equal(decode(sample.picture, "key"), expected)
        assert np.array_equal(decode_with_pillow(sample.picture), expected)


@pytest.mark.parametrize("name", JPEGS)
def test_cut_anywhere_and_closed_with_an_end_marker_it_is_rejected(name: str) -> None:
    raw = JPEGS[name]
    taken = [
        place
        for place in range(raw.index(SCAN) + 14, len(raw) - 2)
        if isinstance(normalize_photo(raw[:place] + END, RECIPE), Sample)
    ]
    assert taken == []


@given(NAMES, HARMLESS, st.floats(0, 1))
@settings(max_examples=200)
def test_an_odd_marker_hides_no_cut(name: str, change: Change, share: float) -> None:
    raw = change(JPEGS[name])
    start = raw.rindex(SCAN) + 14
    place = start + int(share * (len(JPEGS[name].rpartition(SCAN)[2]) - 20))
    assert "cannot be decoded" in find_rejection(raw[:place] + END)
    with pytest.raises(CorruptDataError, match="the picture of key cannot be decoded"):
        decode(raw[:place] + END, "key")


@pytest.mark.parametrize("name", PROGRESSIVE | {"a scan a channel": SEQUENTIAL["a scan a channel"]})
def test_a_file_that_lost_its_last_scans_is_rejected(name: str) -> None:
    places = [segment.start for segment in segments(JPEGS[name]) if segment.marker == SCAN[1]]
    assert len(places) > 2
    for place in places[1:]:
        cut = JPEGS[name][:place]
        assert decode_with_pillow(cut + END).shape == (48, 40, 3), "decoders say nothing"
        assert "no scan finishes its channel" in find_rejection(cut + END)
        assert "no scan finishes its channel" in find_rejection(cut + END, UNCHECKED)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_small_file_that_claims_many_pixels_is_rejected_at_once(options: dict[str, bool]) -> None:
    raw = encode(make_texture(9), "JPEG", **options)
    frame = raw.index(b"\xff\xc2" if options else b"\xff\xc0")
    huge = overwrite(raw, frame + 5, ">HH", 9000, 9000)
    for recipe in (RECIPE, UNCHECKED):
        assert f"{len(raw)} bytes cannot hold 9000x9000 pixels" in find_rejection(huge, recipe)
    flat = encode(Image.new("L", (3000, 3000)), "JPEG", optimize=True, **options)
    assert isinstance(normalize_photo(flat, RECIPE), Sample), f"{len(flat)} bytes do hold it"


@pytest.mark.parametrize("name", sorted(JPEGS))
def test_damage_is_judged_alike_by_build_and_stream(name: str) -> None:
    raw, rng, verdicts = JPEGS[name], random.Random(name), set[bool]()
    for _ in range(400):
        damaged = bytearray(raw)
        for _ in range(rng.choice([1, 3])):
            damaged[rng.randrange(raw.index(SCAN) + 14, len(raw) - 2)] = rng.randrange(256)
        judged = [_decodes(lambda: find_fault(bytes(damaged), "JPEG")), _decodes(lambda: decode_photo(bytes(damaged)))]  # noqa: B023
        assert judged[0] == judged[1]
        verdicts.add(judged[0])
    assert verdicts == {True, False}


def _decodes(work: Callable[[], object]) -> bool:
    try:
        work()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("options", [{}, {"lossless": True}], ids=["lossy", "lossless"])
def test_a_webp_cut_anywhere_whose_sizes_were_put_right_is_rejected(options: dict[str, bool]) -> None:
    raw = encode(make_texture(1), "WEBP", **options)
    for length in range(20, len(raw) - 22, 7):
        body = raw[20 : 20 + length] + bytes(length % 2)
        cut = b"RIFF" + struct.pack("<I", 12 + len(body)) + raw[8:16] + struct.pack("<I", length) + body
        assert find_rejection(cut)
        with pytest.raises(CorruptDataError):
            decode(cut, "key")


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_kept_shows_the_same_to_the_stream_and_to_pillow(name: str) -> None:
    assert np.array_equal(decode(normalize_whole(WHOLE[name]).picture, "key"), decode_with_pillow(WHOLE[name]))


def test_a_photo_that_pillow_cannot_open_becomes_a_png() -> None:
    raw = PLAIN[:2] + segment(0xE0, b"JFIF\0") + PLAIN[20:]  # the segment is shorter than JFIF's
    with pytest.raises(OSError, match="cannot identify"):
        decode_with_pillow(raw)
    sample = normalize_whole(raw)
    assert sample.suffix == "png"
    assert sample.normalised[0] == "passed over: Pillow cannot open the file (UnidentifiedImageError)"
    assert np.array_equal(decode_with_pillow(sample.picture), decode_with_pillow(PLAIN))


def test_the_stream_turns_no_photo() -> None:
    turned = encode(photo(3), "PNG", exif=_exif(6))
    assert decode_photo(turned).pixels.shape == (48, 40, 3), "a photo that is stored is upright, whatever its EXIF says"


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(99), b"BM" + bytes(99), b"RIFF\0\0\0\0WAVE"])
def test_other_formats_are_not_decoded(data: bytes) -> None:
    with pytest.raises((ValueError, cv2.error)):
        decode_photo(data)


def test_the_whole_of_a_damaged_photo_is_never_taken_for_a_reduced_one() -> None:
    with pytest.raises(ValueError, match="premature end"):
        decode_jpeg(PLAIN[: len(PLAIN) * 2 // 3] + END, "GRAY", (1, 1))
    assert decode_jpeg(PLAIN, "GRAY", (1, 1)).pixels.shape == (6, 5, 1)


def test_rejections_name_what_is_damaged() -> None:
    verdict = normalize_photo(PLAIN[: len(PLAIN) * 2 // 3] + END, DatasetConfig("folder"))
    assert verdict == Rejected("cannot be decoded: Corrupt JPEG data: premature end of data segment")
