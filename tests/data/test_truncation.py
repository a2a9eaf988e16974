"""Wholeness: files that were cut, or whose tail became zeros, are rejected or have all their pixels."""

from typing import Any

import numpy as np
import pytest

from pipelines.data.image.normalize import normalize_photo
from pipelines.records import Sample
from tests.data.hostile_files import segment
from tests.data.jpeg_files import adobe, at_once, decode_with_pillow
from tests.data.picture_files import OTHER, RECIPE, WHOLE, encode, make_texture, normalize_whole, pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the damage that is made here


@pytest.mark.parametrize("name", sorted(WHOLE | OTHER))
def test_a_cut_file_is_rejected_or_has_all_its_pixels(name: str) -> None:
    raw = (WHOLE | OTHER)[name]
    expected = pixels(normalize_whole(raw).picture)
    for length in [*range(0, len(raw), 61), *range(len(raw) - 30, len(raw))]:
        verdict = normalize_photo(raw[:length], RECIPE)
        if isinstance(verdict, Sample):
            assert len(raw) - length < 30, f"{len(raw) - length} bytes are missing"
            assert np.array_equal(pixels(verdict.picture), expected), length


@pytest.mark.parametrize(("file_format", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})])
def test_a_file_whose_tail_is_zeros_is_rejected(file_format: str, options: dict[str, Any]) -> None:
    """JPEG ends with a marker and PNG has checksums; nothing in a WebP distinguishes zeros from pixels."""
    raw = encode(make_texture(1), file_format, **options)
    assert normalize_whole(raw).picture == raw
    whole = [
        f"{zeros} of {len(raw)}"
        for zeros in range(64, len(raw) - 64, 61)
        if isinstance(normalize_photo(raw[:-zeros] + bytes(zeros), RECIPE), Sample)
    ]
    assert whole == [], "accepted with so many zeros"


def test_a_jpeg_that_lost_its_last_bytes_to_zeros_is_rejected() -> None:
    raw = encode(make_texture(2), "JPEG", quality=95)
    accepted = [n for n in range(3, 64) if isinstance(normalize_photo(raw[:-n] + bytes(n), RECIPE), Sample)]
    assert accepted == []


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_blocks": 2}])
def test_a_jpeg_of_ink_that_was_cut_and_closed_is_rejected(options: dict[str, Any]) -> None:
    raw = encode(make_texture(3).convert("CMYK"), "JPEG", **options)
    assert normalize_whole(raw).suffix == "png"
    coded = raw.index(b"\xff\xda") + 20
    accepted = [
        n for n in range(coded, len(raw) - 30, 97) if isinstance(normalize_photo(raw[:n] + raw[-2:], RECIPE), Sample)
    ]
    assert accepted == []


@pytest.mark.parametrize("transform", [0, 1, 2])
@pytest.mark.parametrize("odd", [segment(0xE2, b"ICC_PROFILE\0\5\2" + bytes(9)), b"junk"])
def test_a_jpeg_of_ink_with_odd_segments_keeps_its_pixels(transform: int, odd: bytes) -> None:
    raw = at_once(encode(make_texture(4).convert("CMYK"), "JPEG").replace(adobe(0), adobe(transform)), odd)
    sample = normalize_whole(raw)
    assert sample.normalised[0].startswith("passed over")
    assert np.array_equal(pixels(sample.picture), decode_with_pillow(raw))
