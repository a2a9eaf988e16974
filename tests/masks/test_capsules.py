"""Thick strokes: every pixel against the definition, and the pen that draws them."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks.capsules import Sketch, draw_sketches, sort_ends
from pipelines.masks.freeform import _to_normal
from pipelines.masks.pen import CIRCLE, TURN, Pen

HEIGHT, WIDTH = 60, 75
PLACES = st.tuples(st.integers(-40, 110), st.integers(-40, 110))
SEGMENTS = st.lists(st.tuples(PLACES, PLACES, st.integers(1, 50)), min_size=1, max_size=4)


def distances(start: tuple[int, int], end: tuple[int, int]) -> NDArray[np.float64]:
    """HEIGHT x WIDTH: how far every pixel is from a segment."""
    pixels = np.moveaxis(np.mgrid[:HEIGHT, :WIDTH], 0, -1).astype(np.float64)
    step = np.subtract(end, start)
    along = np.clip((pixels - start) @ step / max(step @ step, 1), 0, 1)
    return np.asarray(np.linalg.norm(pixels - start - along[..., None] * step, axis=-1))


def fill(segments: list[tuple[tuple[int, int], tuple[int, int], int]], size: tuple[int, int]) -> NDArray[np.uint8]:
    starts, ends, widths = zip(*segments, strict=True)
    ordered = sort_ends(np.array(starts).T, np.array(ends).T)
    return mask_of(Sketch(np.concatenate((*ordered, np.array(widths)[None]))), size)


def mask_of(sketch: Sketch, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(draw_sketches(*size, [sketch])[0], np.uint8)


@settings(max_examples=300)
@given(segments=SEGMENTS)
def test_a_pixel_is_filled_if_it_is_half_a_width_from_a_segment(
    segments: list[tuple[tuple[int, int], tuple[int, int], int]],
) -> None:
    depth = np.max([width / 2 - distances(start, end) for start, end, width in segments], axis=0)
    filled = fill(segments, (HEIGHT, WIDTH)) > 0
    assert filled[depth > 0.001].all()
    assert not filled[depth < -0.001].any()


@pytest.mark.parametrize(("width", "ratio"), [(1, 1), (2, 3), (9, 9), (10, 11)])
def test_a_level_stroke_covers_whole_pixels_on_both_sides_of_its_axis(width: int, ratio: int) -> None:
    assert fill([((20, 10), (20, 50), width)], (40, 60))[:, 30].sum() == ratio


def test_direction_of_a_stroke_does_not_matter() -> None:
    one, other = (fill([(a, b, 13)], (64, 64)) for a, b in [((5, 9), (50, 21)), ((50, 21), (5, 9))])
    assert np.array_equal(one, other)


@settings(max_examples=100)
@given(segments=SEGMENTS)
def test_a_smaller_canvas_cuts_and_a_turned_one_turns(
    segments: list[tuple[tuple[int, int], tuple[int, int], int]],
) -> None:
    whole = fill(segments, (130, 200))
    assert np.array_equal(fill(segments, (HEIGHT, WIDTH)), whole[:HEIGHT, :WIDTH])
    turned = fill([((129 - a[0], 199 - a[1]), (129 - b[0], 199 - b[1]), w) for a, b, w in segments], (130, 200))
    assert np.array_equal(turned, whole[::-1, ::-1])


@settings(max_examples=100)
@given(many=st.lists(SEGMENTS, min_size=1, max_size=5))
def test_masks_drawn_together_do_not_touch_each_other(
    many: list[list[tuple[tuple[int, int], tuple[int, int], int]]],
) -> None:
    sketches = []
    for segments in many:
        starts, ends, widths = zip(*segments, strict=True)
        ordered = sort_ends(np.array(starts).T, np.array(ends).T)
        sketches.append(Sketch(np.concatenate((*ordered, np.array(widths)[None])), ((slice(1, 3), slice(2, 4)),)))
    together = draw_sketches(HEIGHT, WIDTH, sketches)
    assert all(np.array_equal(mask, mask_of(s, (HEIGHT, WIDTH))) for mask, s in zip(together, sketches, strict=True))


def test_nothing_drawn_is_nothing_filled() -> None:
    assert not mask_of(Pen(10, 20).sketch(), (10, 20)).any()
    assert fill([((-90, -90), (-80, -80), 5)], (10, 20)).sum() == 0


def test_pen_stays_on_its_canvas_and_follows_its_orders() -> None:
    pen = Pen(100, 100, past=0)
    pen.put(50, 10)
    pen.draw(30 << 16, 0, 1)  # right
    pen.draw(20 << 16, TURN // 4, 1)  # down
    pen.draw(500 << 16, TURN // 2, 1)  # left, to the border
    mask = mask_of(pen.sketch(), (100, 100))
    assert mask[50, 10:41].all()
    assert mask[50:71, 40].all()
    assert mask[70, :41].all()
    assert mask.sum() == 31 + 20 + 40


def test_circle_is_that_of_the_mathematical_library() -> None:
    for angle, (sine, cosine) in enumerate(CIRCLE):
        assert sine == pytest.approx(math.sin(2 * math.pi * angle / TURN) * 2**30, abs=0.6)
        assert cosine == pytest.approx(math.cos(2 * math.pi * angle / TURN) * 2**30, abs=0.6)


def test_lengths_are_normal() -> None:
    rng, normal = KeyedRng("normal"), statistics.NormalDist()
    drawn = np.sort([_to_normal(*rng.take(2)) / 65536 for _ in range(40000)])
    expected = [normal.cdf(x) for x in drawn]
    assert np.abs(np.arange(40000) / 40000 - expected).max() < 0.01
