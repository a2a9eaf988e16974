"""Every family of holes: its values, its statistics at 256x256 against the specification, its recorded masks."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.chance import Chance
from pipelines.masks import MASKS
from pipelines.masks.bins import BINS, bin_of, hole_ratio
from pipelines.masks.recipe import MaskRecipe, recipe_for

# mean, smallest and largest hole ratio at 256x256; masks.md, families A, B and C
STATISTICS = {
    "rectangle": (0.248, 0.088, 0.490),
    "brush": (0.398, 0.15, 0.66),
    "automaton": (0.512, 0.20, 0.72),
}
GOLDEN = {
    "rectangle": "d21210924742eb3447c3e1f9797d062e622b41e5e49b72e861e8e23853c00a2e",
    "brush": "eb6b406ab35fc4c54d1405b5cc1c3928ec8cad2efa76a0f7cae78aca9704386e",
    "automaton": "3b24e30fe7c021595426eee611c171301a6977a5d57ec8afd85e0698308c9f82",
}
SIDES = st.integers(16, 300)
FAMILIES = pytest.mark.parametrize("family", list(MASKS))


@FAMILIES
@settings(deadline=None, max_examples=40)
@given(height=st.integers(32, 300), width=st.integers(32, 300), final=st.tuples(SIDES, SIDES), number=st.integers(0))
def test_mask_is_binary_with_a_hole_and_something_around_it(
    family: str, height: int, width: int, final: tuple[int, int], number: int
) -> None:
    mask = MaskRecipe(family, MASKS[family].version, (height, width), final, f"law/{number}").draw()
    assert mask.dtype == np.uint8
    assert mask.shape == final
    assert set(np.unique(mask)) == {0, 1}


@FAMILIES
@pytest.mark.parametrize("canvas", [(16, 300), (300, 16), (37, 211)], ids=str)
def test_mask_of_an_extreme_canvas_keeps_both_values(family: str, canvas: tuple[int, int]) -> None:
    for number in range(20):
        mask = MaskRecipe(family, MASKS[family].version, canvas, canvas, f"extreme/{number}").draw()
        assert set(np.unique(mask)) == {0, 1}


@FAMILIES
def test_drawing_fills_the_canvas_it_is_asked_for(family: str) -> None:
    mask = MASKS[family].draw(120, 200, Chance("canvas"))
    assert mask.shape == (120, 200)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


@FAMILIES
def test_hole_ratios_are_those_of_the_specification(family: str) -> None:
    mean, low, high = STATISTICS[family]
    ratios = [hole_ratio(recipe_for(family, 256, 256, "ratios", number).draw()) for number in range(600)]
    assert np.mean(ratios) == pytest.approx(mean, abs=0.012)
    assert low <= min(ratios)
    assert max(ratios) <= high


@FAMILIES
def test_the_hole_may_lie_anywhere_off_the_border(family: str) -> None:
    covered = np.sum([recipe_for(family, 64, 64, "anywhere", n).draw() for n in range(600)], axis=0)
    assert np.all(covered[4:-4, 4:-4] > 0)


@settings(deadline=None, max_examples=100)
@given(height=SIDES, width=SIDES, number=st.integers(0))
def test_rectangle_is_one_box_of_three_to_seven_tenths(height: int, width: int, number: int) -> None:
    mask = MASKS["rectangle"].draw(height, width, Chance("box", number))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert mask.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert 3 * height // 10 <= len(rows) <= 7 * height // 10
    assert 3 * width // 10 <= len(columns) <= 7 * width // 10


def test_rectangle_reaches_both_ends_of_its_range_and_all_four_borders() -> None:
    masks = [MASKS["rectangle"].draw(20, 20, Chance("ends", number)) for number in range(400)]
    heights = {int(mask.any(axis=1).sum()) for mask in masks}
    assert (min(heights), max(heights)) == (6, 14)
    for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert any(mask[border].any() for mask in masks)


@FAMILIES
def test_same_chance_draws_the_same_bits_and_another_draws_others(family: str) -> None:
    first, again, other = (MASKS[family].draw(96, 128, Chance("same", n)) for n in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


EDGES = {0: "0-0.01", 1: "0-0.01", 2: "0.01-0.1", 10: "0.01-0.1", 11: "0.1-0.2", 20: "0.1-0.2", 21: "0.2-0.3"}
EDGES |= {30: "0.2-0.3", 40: "0.3-0.4", 41: "0.4-0.5", 50: "0.4-0.5", 60: "0.5-0.6", 61: "0.6-1", 100: "0.6-1"}


@pytest.mark.parametrize(("holes", "name"), EDGES.items())
def test_a_ratio_on_an_edge_belongs_to_the_bin_below(holes: int, name: str) -> None:
    mask = (np.arange(100) < holes).astype(np.uint8).reshape(10, 10)
    assert bin_of(mask) == name


@settings(deadline=None)
@given(pixels=st.integers(1, 5000), share=st.fractions(0, 1))
def test_bin_holds_the_ratio_of_its_name(pixels: int, share: float) -> None:
    holes = int(pixels * share)
    low, high = bin_of((np.arange(pixels)[None] < holes).astype(np.uint8)).split("-")
    assert holes * 100 > int(float(low) * 100) * pixels or low == "0"
    assert holes * 100 <= round(float(high) * 100) * pixels


def test_there_are_no_other_bins() -> None:
    assert {bin_of((np.arange(1000)[None] < n).astype(np.uint8)) for n in range(1001)} == set(BINS)


def test_hole_ratio_of_a_quarter_is_a_quarter() -> None:
    assert hole_ratio(np.array([[1, 0], [0, 0]], np.uint8)) == 0.25


@FAMILIES
def test_recorded_mask_is_drawn_again_bit_for_bit(family: str) -> None:
    mask = MaskRecipe(family, 1, (256, 256), (256, 256), "0/mask/celeba/000123").draw()
    assert hashlib.sha256(mask.tobytes()).hexdigest() == GOLDEN[family]
