"""Holes: how a mask lies on a turned photo, grown and soft edges, transparency."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.data.image.decode import turn_upright
from pipelines.filling.hole import HoleSettings, feather, grow, read_hole
from pipelines.filling.photo_files import Photo, read_photo
from pipelines.filling.planes import read_plane
from pipelines.records import UsageError
from tests.making import photo

HEIGHT, WIDTH = 24, 36


def encode_image(picture: Image.Image, kind: str = "PNG", orientation: int = 1, **options: Any) -> bytes:
    if orientation != 1:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def mask_of(height: int, width: int) -> np.ndarray:
    """A hole that looks different in each of the eight orientations."""
    mask = np.zeros((height, width), np.uint8)
    mask[3:12, 4:8] = mask[3:6, 4:14] = 255
    return mask


def make_turned_photo(orientation: int, height: int, width: int) -> Photo:
    """A photo that is seen as height x width and stored in an orientation."""
    stored = (height, width) if orientation < 5 else (width, height)
    return read_photo(encode_image(photo(4, *stored), orientation=orientation), "p.png")


def as_stored(seen: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels of which these are seen."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return turn_upright(seen, inverse)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_with_an_orientation_of_its_own_lies_as_it_says(orientation: int) -> None:
    seen = mask_of(HEIGHT, WIDTH)
    data = encode_image(Image.fromarray(as_stored(seen, orientation)), orientation=orientation)
    hole = read_hole(make_turned_photo(orientation, HEIGHT, WIDTH), data, "m.png", HoleSettings()).mask
    assert np.array_equal(hole * 255, seen)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_sizes_say_how_a_mask_lies_on_a_photo_turned_by_a_quarter(orientation: int) -> None:
    seen, turned = mask_of(HEIGHT, WIDTH), make_turned_photo(orientation, HEIGHT, WIDTH)
    for levels in (seen, as_stored(seen, orientation)):
        hole = read_hole(turned, encode_image(Image.fromarray(levels)), "m.png", HoleSettings()).mask
        assert np.array_equal(hole * 255, seen)


@pytest.mark.parametrize(("orientation", "size"), [(2, (24, 36)), (3, (24, 36)), (4, (24, 36)), (6, (24, 24))])
def test_where_sizes_do_not_say_it_the_user_must(orientation: int, size: tuple[int, int]) -> None:
    seen, turned = mask_of(*size), make_turned_photo(orientation, *size)
    data = {
        "upright": encode_image(Image.fromarray(seen)),
        "stored": encode_image(Image.fromarray(as_stored(seen, orientation))),
    }
    with pytest.raises(
        UsageError, match=rf"orientation {orientation}\) and both have one size\. Say --mask-orientation"
    ):
        read_hole(turned, data["upright"], "m.png", HoleSettings())
    for how in ("upright", "stored"):
        hole = read_hole(turned, data[how], "m.png", HoleSettings(orientation=how)).mask
        assert np.array_equal(hole * 255, seen)


def test_a_mask_of_another_size_is_refused_before_it_is_decoded() -> None:
    small = encode_image(Image.new("1", (8, 8)))
    bomb = small[:16] + (40_000).to_bytes(4, "big") * 2 + small[24:]  # as its header has it
    with pytest.raises(UsageError, match=r"m\.png is 40000x40000, the photo is 36x24: give a picture of the photo"):
        read_hole(make_turned_photo(1, HEIGHT, WIDTH), bomb, "m.png", HoleSettings())


@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), min_size=1, max_size=5),
)
@settings(max_examples=40)
def test_grown_holes_hold_all_pixels_up_to_the_distance(px: int, holes: list[tuple[int, int]]) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[tuple(zip(*holes, strict=True))] = 1
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    near = np.min([np.hypot(rows - row, columns - column) for row, column in holes], axis=0)
    assert np.array_equal(grow(mask, px), near <= px)


def test_a_feather_fades_from_the_fill_into_the_photo() -> None:
    hole = np.zeros((9, 60), np.uint8)
    hole[:, 20:30] = 1
    known, fill = np.zeros((9, 60, 3), np.uint8), np.full((9, 60, 3), 200, np.uint8)
    blended = feather(known, np.where(grow(hole, 4)[..., None] > 0, fill, known), hole, 4)
    assert (blended[:, 20:30] == 200).all()
    assert blended[4, 30:36, 0].tolist() == [160, 120, 80, 40, 0, 0]
    assert blended[4, 14:20, 0].tolist() == [0, 0, 40, 80, 120, 160]


def test_soft_masks_are_taken_with_a_grown_edge_and_gray_pictures_never() -> None:
    height, width = 60, 80
    soft = np.zeros((height, width), np.uint8)
    soft[20:40, 20:40] = 255
    soft[20:40, 40:60] = np.linspace(255, 0, 20).astype(np.uint8)
    plain = read_photo(encode_image(photo(1, height, width)), "p.png")
    with pytest.raises(UsageError, match=r"m\.png is 7% gray: .*\. `lacuna fill --grow` takes soft edges"):
        read_hole(plain, encode_image(Image.fromarray(soft)), "m.png", HoleSettings())
    hole, num_gray = read_hole(plain, encode_image(Image.fromarray(soft)), "m.png", HoleSettings(grow_px=10))
    assert num_gray == 0
    assert (hole[soft > 0].mean(), hole[0, 0]) == (1.0, 0)
    with pytest.raises(UsageError, match="gray: give black and white"):
        read_hole(plain, encode_image(photo(1, height, width).convert("L")), "m.png", HoleSettings(grow_px=10))


@pytest.mark.parametrize("color", ["white", "black", "alpha"])
def test_gray_pixels_that_count_as_known_are_counted_unless_they_are_grown_over(color: Any) -> None:
    levels = mask_of(HEIGHT, WIDTH)
    levels[20, 20:30] = [16, 17, 60, 127, 128, 200, 238, 239, 255, 255]
    for grow_px, expected in ((0, 3), (1, 2), (2, 1), (3, 0)):
        settings = HoleSettings(color, grow_px=grow_px)
        if color == "alpha":
            hole = read_hole(transparent(255 - levels), None, "a.png", settings)
        else:
            drawn = Image.fromarray(levels if color == "white" else 255 - levels)
            hole = read_hole(make_turned_photo(1, HEIGHT, WIDTH), encode_image(drawn), "m.png", settings)
        assert hole.mask[20, 24] == 1
        assert hole.num_gray == expected


def test_a_hole_that_grows_over_the_whole_photo_is_refused() -> None:
    data = encode_image(Image.fromarray(mask_of(HEIGHT, WIDTH)))
    for asked in (HoleSettings(grow_px=40), HoleSettings(grow_px=20, feather_px=20)):
        with pytest.raises(UsageError, match=r"m\.png: with 40 px around it the hole covers all of the photo"):
            read_hole(make_turned_photo(1, HEIGHT, WIDTH), data, "m.png", asked)


def test_negative_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match="--grow is -1: it must be 0 px or more"):
        HoleSettings(grow_px=-1)
    with pytest.raises(UsageError, match="--feather is -2: it must be 0 px or more"):
        HoleSettings(feather_px=-2)


def transparent(alpha: np.ndarray) -> Photo:
    picture = photo(2, *alpha.shape).convert("RGBA")
    picture.putalpha(Image.fromarray(alpha))
    return read_photo(encode_image(picture), "a.png", needs_alpha=True)


def test_what_is_transparent_is_the_hole() -> None:
    seen = mask_of(HEIGHT, WIDTH)
    cut = transparent(255 - seen)
    assert np.array_equal(read_hole(cut, None, "a.png", HoleSettings("alpha")).mask * 255, seen)
    assert np.array_equal(cut.pixels, np.asarray(photo(2, HEIGHT, WIDTH)))


@pytest.mark.parametrize(
    ("level", "words"), [(255, "empty: no pixel is transparent"), (0, "full: every"), (128, "100% half transparent")]
)
def test_transparency_that_is_no_hole_is_refused(level: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_hole(transparent(np.full((HEIGHT, WIDTH), level, np.uint8)), None, "a.png", HoleSettings("alpha"))


@pytest.mark.parametrize("kind", ["RGB", "L", "RGBA", "1"])
def test_strokes_are_the_rarer_of_dark_and_light(kind: str) -> None:
    levels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    levels[5, 3:30] = levels[5:15, 30] = 0
    plain = make_turned_photo(1, HEIGHT, WIDTH)
    for drawn in (levels, 255 - levels):
        strokes = read_plane("sketch", encode_image(Image.fromarray(drawn).convert(kind)), plain, "s.png", "auto")
        assert strokes.shape == (1, 1, HEIGHT, WIDTH)
        assert np.array_equal(strokes[0, 0].numpy(), levels == 0)


def test_pictures_that_are_no_sketch_are_refused() -> None:
    plain = make_turned_photo(1, HEIGHT, WIDTH)
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[: HEIGHT // 2] = 255
    for data, words in [
        (encode_image(Image.fromarray(half)), r"s\.png is no sketch: 50% of it is dark"),
        (encode_image(Image.new("L", (WIDTH, HEIGHT))), r"s\.png has no strokes: all of it is dark"),
        (encode_image(Image.new("L", (WIDTH, HEIGHT + 1))), r"s\.png is 36x25, the photo is 36x24"),
        (b"text", r"s\.png is no sketch: not an image of a known format"),
    ]:
        with pytest.raises(UsageError, match=words):
            read_plane("sketch", data, plain, "s.png", "auto")


def test_a_map_lies_as_its_photo_and_keeps_its_colors() -> None:
    classes = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (HEIGHT, WIDTH, 3))
    turned = make_turned_photo(6, HEIGHT, WIDTH)
    for data in (encode_image(Image.fromarray(classes)), encode_image(Image.fromarray(as_stored(classes, 6)))):
        plane = read_plane("segmentation", data, turned, "g.png", "auto")
        assert np.array_equal((plane[0] * 255).round().permute(1, 2, 0).numpy(), classes)
