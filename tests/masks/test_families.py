"""Every family of holes: its values, its statistics at 256x256 against the specification, its recorded masks."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks import MASKS
from pipelines.masks.bins import hole_ratio
from pipelines.masks.spec import MaskSpec, make_mask_spec, parse_mask_spec

pytestmark = pytest.mark.thorough

# mean, standard deviation, smallest and largest hole ratio at 256x256; masks.md
STATISTICS = {
    "rectangle": (0.248, 0.084, 0.088, 0.489),
    "brush": (0.398, 0.062, 0.15, 0.66),
    "automaton": (0.512, 0.069, 0.18, 0.72),
    "freeform": (0.309, 0.069, 0.13, 0.65),
    "freeform-brush": (0.150, 0.080, 0, 0.55),
    "brush-square": (0.266, 0.069, 0.1406, 0.60),
    "strokes": (0.540, 0.229, 0, 0.99),
    "strokes-clear-border": (0.360, 0.154, 0, (1 - 50 / 256) ** 2),  # ours; of such there is no published figure
    "centre": (0.25, 0, 0.25, 0.25),
    "half": (0.5, 0, 0.5, 0.5),
    "expand": (0.9375, 0, 0.9375, 0.9375),
}
GOLDEN = {
    "rectangle": "d21210924742eb3447c3e1f9797d062e622b41e5e49b72e861e8e23853c00a2e",
    "brush": "87a69105567673fb774fe83a653d5e9e181132010bfea0eaf700266899a11b3d",
    "automaton": "034ef6cf311effb6620cfc984f2ca98bb0e6061e9d87de082778622bc9a7959a",
    "freeform": "8d573603f05253237bf157a80d4fb9c66540511e8123c8e879321a301ea30045",
    "freeform-brush": "4237cb2a4dc687279c16cbea8e50d22bed0e72126ad8ab4feb2acb58ac155487",
    "brush-square": "52068e6d4e13493ba8203ad98f063ca1559262024c03cfe0c3b8d7ca82368eea",
    "strokes": "240005b7f490daafe38d7ad05de1dafc78dedb94b07753967525fe7a2e5b8b7c",
    "strokes-clear-border": "e5579c47a12218d4ca14bf1d64d7fcb2bfbf7ef0586bb9397e02e5e9a679a761",
    "centre": "6cf0aa6f4c87b65eb392f18a18c519df85ec678acaeb94208e0b771432a7ad3b",
    "half": "b04729edd78365a59d6fbc233cf62e52231bd5ff581190ce972cc4c43a508474",
    "expand": "e53039211fb3abeec079719524b57d0129f0a0376f3b6824281f764e35afddcf",
}
GOLDEN_SCALED = "353c7d3c7ab6ede2d730e7aa49663c0e9088d1d050acf47fe17093b57eb5b25d"
RANDOM = [family for family in MASKS if STATISTICS[family][1] > 0]
SIDES = st.integers(16, 300)
FAMILIES = pytest.mark.parametrize("family", list(MASKS))
RANDOM_FAMILIES = pytest.mark.parametrize("family", RANDOM)


@FAMILIES
@settings(max_examples=40)
@given(height=st.integers(32, 300), width=st.integers(32, 300), final=st.tuples(SIDES, SIDES), number=st.integers(0))
def test_mask_is_binary_with_a_hole_and_something_around_it(
    family: str, height: int, width: int, final: tuple[int, int], number: int
) -> None:
    for scaled in (False, True):
        spec = MaskSpec(family, MASKS[family].version, (height, width), final, f"law/{number}", scaled=scaled)
        mask = spec.draw()
        assert mask.dtype == np.uint8
        assert mask.shape == final
        assert set(np.unique(mask)) == {0, 1}


@FAMILIES
@pytest.mark.parametrize("canvas", [(16, 300), (300, 16), (37, 211)], ids=str)
def test_mask_of_an_extreme_canvas_keeps_both_values(family: str, canvas: tuple[int, int]) -> None:
    for number in range(20):
        mask = MaskSpec(family, MASKS[family].version, canvas, canvas, f"extreme/{number}").draw()
        assert set(np.unique(mask)) == {0, 1}


@FAMILIES
def test_drawing_fills_the_canvas_it_is_asked_for(family: str) -> None:
    mask = MASKS[family].draw(120, 200, KeyedRng("canvas"))
    assert mask.shape == (120, 200)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


def ratios(family: str, size_px: int, count: int, scaled: bool = False) -> NDArray[np.float64]:
    """Hole ratios of that many masks, the same chance at every size."""
    specs = (make_mask_spec(family, size_px, size_px, "ratios", n, scaled=scaled) for n in range(count))
    return np.array([hole_ratio(spec.draw()) for spec in specs])


@FAMILIES
def test_hole_ratios_are_those_of_the_specification(family: str) -> None:
    mean, deviation, low, high = STATISTICS[family]
    drawn = ratios(family, 256, 500)
    assert drawn.mean() == pytest.approx(mean, abs=0.006 + 3 * deviation / 500**0.5)
    assert drawn.std() == pytest.approx(deviation, rel=0.15)
    assert low <= drawn.min()
    assert drawn.max() <= high


@pytest.mark.slow
@RANDOM_FAMILIES
def test_mean_hole_ratio_of_4000_masks_is_within_a_hundredth(family: str) -> None:
    mean, deviation, low, high = STATISTICS[family]
    drawn = ratios(family, 256, 4000)
    assert drawn.mean() == pytest.approx(mean, abs=0.01)
    assert drawn.std() == pytest.approx(deviation, abs=0.01)
    assert low <= drawn.min()
    assert drawn.max() <= high


@FAMILIES
@pytest.mark.parametrize("size_px", [128, 512])
def test_scaled_masks_keep_their_hole_ratio(family: str, size_px: int) -> None:
    assert ratios(family, size_px, 200, scaled=True).mean() == pytest.approx(ratios(family, 256, 200).mean(), abs=0.02)


def test_lengths_in_pixels_cover_less_of_a_larger_canvas_unless_scaled() -> None:
    assert ratios("brush", 512, 20).mean() < 0.25


@RANDOM_FAMILIES
def test_the_hole_may_lie_anywhere_off_the_border(family: str) -> None:
    covered = np.sum([make_mask_spec(family, 64, 64, "anywhere", n, scaled=True).draw() for n in range(800)], axis=0)
    edge = 7 if family == "strokes-clear-border" else 4
    assert np.all(covered[edge:-edge, edge:-edge] > 0)


@pytest.mark.parametrize("canvas", [(512, 512), (256, 256), (100, 300)], ids=str)
def test_a_clear_border_is_50_of_512_pixels_wide_and_no_wider(canvas: tuple[int, int]) -> None:
    whole = [MASKS["strokes"].draw(*canvas, KeyedRng("clear", n)) for n in range(30)]
    clear = [MASKS["strokes-clear-border"].draw(*canvas, KeyedRng("clear", n)) for n in range(30)]
    y, x = (side * 50 // 512 for side in canvas)
    for mask, strokes in zip(clear, whole, strict=True):
        assert np.array_equal(mask, np.pad(strokes[y:-y, x:-x], ((y, y), (x, x))))
    assert all(np.sum(clear, axis=0)[edge].any() for edge in (np.s_[y], np.s_[-y - 1], np.s_[:, x], np.s_[:, -x - 1]))


def coverage(family: str, height: int, width: int) -> NDArray[np.float64]:
    """How often each of 4x4 parts of a canvas is hole, over 400 masks."""
    total = np.sum([MASKS[family].draw(height, width, KeyedRng("cover", n), 160) for n in range(400)], axis=0)
    return np.asarray(total.reshape(4, height // 4, 4, width // 4).mean(axis=(1, 3)) / 400)


@RANDOM_FAMILIES
@pytest.mark.parametrize("canvas", [(128, 320), (320, 128)], ids=str)
def test_no_part_of_a_long_canvas_is_left_out(family: str, canvas: tuple[int, int]) -> None:
    """It would be if height and width changed places anywhere."""
    parts = coverage(family, *canvas)
    assert parts.mean(axis=0).min() > 0.3 * parts.mean()
    assert parts.mean(axis=1).min() > 0.3 * parts.mean()


@pytest.mark.parametrize("family", ["rectangle", "automaton", "strokes"])
def test_a_turned_canvas_has_turned_statistics(family: str) -> None:
    """Of the families that know no direction; the strokes of the brushes do."""
    assert coverage(family, 128, 320) == pytest.approx(coverage(family, 320, 128).T, abs=0.06)


@settings(max_examples=100)
@given(height=SIDES, width=SIDES, number=st.integers(0))
def test_rectangle_is_one_box_of_three_to_seven_tenths(height: int, width: int, number: int) -> None:
    mask = MASKS["rectangle"].draw(height, width, KeyedRng("box", number))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert mask.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert 3 * height // 10 <= len(rows) <= 7 * height // 10
    assert 3 * width // 10 <= len(columns) <= 7 * width // 10


def test_rectangle_reaches_both_ends_of_its_range_and_all_four_borders() -> None:
    masks = [MASKS["rectangle"].draw(20, 20, KeyedRng("ends", number)) for number in range(400)]
    heights = {int(mask.any(axis=1).sum()) for mask in masks}
    assert (min(heights), max(heights)) == (6, 14)
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert any(mask[border].any() for mask in masks)


@RANDOM_FAMILIES
def test_same_chance_draws_the_same_bits_and_another_draws_others(family: str) -> None:
    first, again, other = (MASKS[family].draw(96, 128, KeyedRng("same", n), 96) for n in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@FAMILIES
def test_recorded_mask_is_drawn_again_bit_for_bit(family: str) -> None:
    mask = make_mask_spec(family, 256, 256, 0, "mask", "celeba", "000123").draw()
    assert hashlib.sha256(mask.tobytes()).hexdigest() == GOLDEN[family]


def test_recorded_masks_of_another_canvas_are_drawn_again_bit_for_bit() -> None:
    lines = [f"{f} {MASKS[f].version} scaled=333x517 333x517 any 0/mask/celeba/000123" for f in MASKS]
    masks = b"".join(parse_mask_spec(line).draw().tobytes() for line in lines)
    assert hashlib.sha256(masks).hexdigest() == GOLDEN_SCALED


def test_a_fresh_process_draws_the_same_masks() -> None:
    lines = [make_mask_spec(family, 256, 128, 5, "mask", "fresh").line() for family in MASKS]
    script = "import sys; from pipelines.masks.spec import parse_mask_spec\n"
    script += "for line in sys.argv[1:]: sys.stdout.buffer.write(parse_mask_spec(line).draw().tobytes())"
    drawn = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, check=True).stdout
    assert drawn == b"".join(parse_mask_spec(line).draw().tobytes() for line in lines)
