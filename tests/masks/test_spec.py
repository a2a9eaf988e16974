"""Mask recipes: a line and back, the same bits from the same line, and what is said of a line that is none."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.masks import FILE_MASKS, MASKS
from pipelines.masks.bins import BINS, find_bin
from pipelines.masks.reduction import resize_nearest
from pipelines.masks.spec import ANY, MaskFile, MaskSpec, draw_masks, fit_mask_spec, make_mask_spec, parse_mask_spec
from pipelines.records import UsageError

LINE = "rectangle 1 drawn=256x256 64x64 any 0/mask/celeba/000123"
SIZE = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=250)
FIELDS = {
    "version": st.integers(0, 99),
    "drawn_px": SIZE,
    "size_px": SIZE,
    "seed_path": NAMES,
    "bin": st.sampled_from((ANY, *BINS)),
}
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
RECIPES = st.builds(MaskSpec, family=st.sampled_from(list(MASKS)), scaled=st.booleans(), **FIELDS) | st.builds(
    MaskSpec, family=st.sampled_from(list(FILE_MASKS)), file=st.builds(MaskFile, name=NAMES, sha256=DIGESTS), **FIELDS
)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside the block when it takes longer."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@given(spec=RECIPES)
def test_recipe_survives_its_line(spec: MaskSpec) -> None:
    line = spec.line()
    assert line.isascii()
    assert "\n" not in line
    assert parse_mask_spec(line) == spec


def test_line_reads_as_the_specification_shows_it() -> None:
    assert make_mask_spec("rectangle", 256, 64, 0, "mask", "celeba", "000123").line() == LINE
    assert parse_mask_spec(LINE) == MaskSpec("rectangle", 1, (256, 256), (64, 64), "0/mask/celeba/000123")


def test_bin_and_scale_stand_in_the_line() -> None:
    line = make_mask_spec("freeform", 512, 256, 3, "mask", bin="0.2-0.3", scaled=True).line()
    assert line == "freeform 1 scaled=512x512 256x256 0.2-0.3 3/mask"


@pytest.mark.parametrize("family", list(MASKS))
def test_same_line_draws_the_same_bits(family: str) -> None:
    line = make_mask_spec(family, 96, 48, 7, "mask", "key").line()
    assert np.array_equal(parse_mask_spec(line).draw(), parse_mask_spec(line).draw())


def test_masks_of_different_places_differ() -> None:
    places = [(7, "mask", n) for n in range(20)] + [(8, "mask", 0), (7, "other", 0)]
    masks = {make_mask_spec("rectangle", 256, 256, *place).draw().tobytes() for place in places}
    assert len(masks) == len(places)


def test_families_of_one_place_have_their_own_chance() -> None:
    rectangle, brush = (make_mask_spec(f, 64, 64, 0, "mask", 1) for f in ("rectangle", "brush"))
    assert not np.array_equal(rectangle.draw(), brush.draw())


def test_final_mask_is_the_drawn_one_at_nearest_neighbors() -> None:
    drawn = MaskSpec("rectangle", 1, (256, 256), (256, 256), "reduced").draw()
    final = MaskSpec("rectangle", 1, (256, 256), (64, 64), "reduced").draw()
    assert np.array_equal(final, drawn[::4, ::4])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rectangle",
        LINE.replace("drawn=", ""),
        LINE.replace(" any ", " 0.1-0.25 "),
        LINE.replace("drawn=", "scaled=drawn="),
        LINE.replace(" 64x64", " file=a.png 64x64"),
        LINE.replace(" 64x64", f" file=a.png sha256={'0' * 63} 64x64"),
        LINE.replace("64x64", "64"),
        LINE.replace("64x64", "-64x64"),
        LINE.replace("000123", "000 123"),
        LINE.replace("celeba", "célèba"),
        LINE.replace("rectangle 1", "rectangle one"),
        LINE + "\n",
        " " + LINE,
    ],
)
def test_what_is_no_recipe_is_named(line: str) -> None:
    with pytest.raises(UsageError, match="not a mask spec") as fault:
        parse_mask_spec(line)
    assert repr(line) in str(fault.value)


@pytest.mark.parametrize("line", [LINE.replace("rectangle 1", "rectangle 2"), LINE.replace("rectangle", "triangle")])
def test_a_family_or_version_that_is_not_here_is_not_drawn(line: str) -> None:
    with pytest.raises(UsageError, match="use one of rectangle 1, brush 2, automaton 2, freeform 1"):
        parse_mask_spec(line).draw()


def test_an_unknown_family_has_no_recipe() -> None:
    with pytest.raises(UsageError, match="unknown mask family 'triangle': use one of rectangle, brush, automaton"):
        make_mask_spec("triangle", 256, 256, 0)


@pytest.mark.parametrize(
    "line",
    [
        "brush 2 drawn=16x16 16x16 any 0",  # its strokes cover so small a canvas whole
        "rectangle 1 drawn=1x1 1x1 any 0",
        "rectangle 1 drawn=256x256 1x1 any 0",
        "rectangle 1 drawn=256x256 0x0 any 0",
    ],
)
def test_a_recipe_that_no_mask_can_follow_is_refused_not_tried_for_ever(line: str) -> None:
    with time_limit(60), pytest.raises(UsageError, match=r"16x16|1x1|0x0"):
        parse_mask_spec(line).draw()


def test_reduction_takes_the_nearest_row_and_column() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], np.uint8)
    assert resize_nearest(mask, 2, 2).tolist() == [[1, 0], [0, 1]]
    assert resize_nearest(mask, 1, 4).tolist() == [[1, 0, 0, 1]]
    assert resize_nearest(mask[:1, :2], 2, 6).tolist() == [[1, 1, 1, 0, 0, 0]] * 2


@given(shape=st.tuples(*[st.integers(1, 40)] * 2), final=st.tuples(*[st.integers(1, 40)] * 2), seed=st.integers(0, 99))
def test_every_pixel_of_a_reduction_is_one_of_the_mask(
    shape: tuple[int, int], final: tuple[int, int], seed: int
) -> None:
    mask = np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)
    reduced = resize_nearest(mask, *final)
    for i in range(final[0]):
        for j in range(final[1]):
            assert reduced[i, j] == mask[i * shape[0] // final[0], j * shape[1] // final[1]]


@given(st.lists(st.tuples(st.sampled_from(sorted(MASKS)), st.integers(0, 99), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=30)
def test_masks_drawn_together_are_those_drawn_one_by_one(asked: list[tuple[str, int, bool]]) -> None:
    specs = [make_mask_spec(family, 96 if large else 64, 32, n, scaled=large) for family, n, large in asked]
    assert all(np.array_equal(mask, r.draw()) for mask, r in zip(draw_masks(specs), specs, strict=True))


@pytest.mark.parametrize("family", MASKS)
@pytest.mark.parametrize("canvas", [128, 256])
def test_a_mask_drawn_for_another_size_is_of_that_size_and_of_its_bin(family: str, canvas: int) -> None:
    spec = make_mask_spec(family, canvas, 64, "fitted", 3)
    wanted = find_bin(spec.draw()) if family in ("rectangle", "freeform", "half", "expand") else ANY
    for height, width in ((70, 110), (132, 98), (400, 300)):
        fitted = fit_mask_spec(replace(spec, bin=wanted), height, width)
        mask = fitted.draw()
        assert mask.shape == (height, width)
        assert wanted in (ANY, find_bin(mask))
        assert np.array_equal(parse_mask_spec(fitted.line()).draw(), mask)


@pytest.mark.parametrize("family", ["brush", "freeform", "automaton", "rectangle"])
@pytest.mark.parametrize(("canvas", "scaled"), [(256, False), (512, True), (128, False)])
@pytest.mark.parametrize("size", [(40, 40), (320, 320)])
def test_a_mask_drawn_for_another_size_covers_as_much_of_it_on_average(
    family: str, canvas: int, scaled: bool, size: tuple[int, int]
) -> None:
    own = [make_mask_spec(family, canvas, 64, "share", number, scaled=scaled) for number in range(60)]
    ratios = [np.mean([mask.mean() for mask in draw_masks(of)]) for of in (own, [fit_mask_spec(r, *size) for r in own])]
    assert ratios[1] == pytest.approx(ratios[0], abs=0.05)


def test_a_recipe_fitted_to_its_own_size_is_itself() -> None:
    spec = parse_mask_spec(LINE)
    assert fit_mask_spec(spec, 64, 64) == spec


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (12_000, 9_000), (9000, 30)])
def test_masks_of_large_photos_are_drawn_on_a_canvas_of_bounded_size(height: int, width: int) -> None:
    fitted = fit_mask_spec(make_mask_spec("brush", 256, 256, "large"), height, width)
    assert fitted.size_px == (height, width)
    assert max(fitted.drawn_px) <= 4096
    assert min(fitted.drawn_px) >= 256
    assert 0 < fitted.draw().mean() < 1


def test_a_mask_of_a_file_is_not_drawn_at_another_size() -> None:
    spec = MaskSpec("irregular", 1, (512, 512), (64, 64), "path", file=MaskFile("a.png", "0" * 64))
    with pytest.raises(UsageError, match="is made of a file and cannot be drawn at 40x30 px"):
        fit_mask_spec(spec, 30, 40)
