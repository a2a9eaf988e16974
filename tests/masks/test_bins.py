"""Hole-ratio bins: which ratio belongs where, and masks that are drawn for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.masks import MASKS
from pipelines.masks.bins import BINS, find_bin, hole_ratio
from pipelines.masks.spec import make_mask_spec, measure_bin_shares, parse_mask_spec
from pipelines.records import UsageError

FAMILIES = pytest.mark.parametrize("family", list(MASKS))
EDGES = {0: "0-0.01", 1: "0-0.01", 2: "0.01-0.1", 10: "0.01-0.1", 11: "0.1-0.2", 20: "0.1-0.2", 21: "0.2-0.3"}
EDGES |= {30: "0.2-0.3", 40: "0.3-0.4", 41: "0.4-0.5", 50: "0.4-0.5", 60: "0.5-0.6", 61: "0.6-1", 100: "0.6-1"}


@pytest.mark.parametrize(("holes", "name"), EDGES.items())
def test_a_ratio_on_an_edge_belongs_to_the_bin_below(holes: int, name: str) -> None:
    mask = (np.arange(100) < holes).astype(np.uint8).reshape(10, 10)
    assert find_bin(mask) == name


@given(pixels=st.integers(1, 5000), share=st.fractions(0, 1))
def test_bin_holds_the_ratio_of_its_name(pixels: int, share: float) -> None:
    holes = int(pixels * share)
    low, high = find_bin((np.arange(pixels)[None] < holes).astype(np.uint8)).split("-")
    assert holes * 100 > int(float(low) * 100) * pixels or low == "0"
    assert holes * 100 <= round(float(high) * 100) * pixels


def test_there_are_no_other_bins() -> None:
    assert {find_bin((np.arange(1000)[None] < n).astype(np.uint8)) for n in range(1001)} == set(BINS)


def test_hole_ratio_of_a_quarter_is_a_quarter() -> None:
    assert hole_ratio(np.array([[1, 0], [0, 0]], np.uint8)) == 0.25


@FAMILIES
def test_a_wanted_bin_is_drawn_or_refused_when_the_recipe_is_made(family: str) -> None:
    shares = measure_bin_shares(family, 256, 64)
    assert sum(shares.values()) == pytest.approx(1)
    for name in BINS:
        if shares[name] < 0.01:
            with pytest.raises(
                UsageError, match=f"{family} masks of 64x64, drawn at 256x256, .* in {name}: .* Use another"
            ):
                make_mask_spec(family, 256, 64, "bins", bin=name)
            continue
        for number in range(3):
            line = make_mask_spec(family, 256, 64, "bins", number, bin=name).line()
            assert f" 64x64 {name} bins/" in line
            assert find_bin(parse_mask_spec(line).draw()) == name


REACHED = {
    "rectangle": ("0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5"),
    "brush": ("0.2-0.3", "0.3-0.4", "0.4-0.5", "0.5-0.6"),
    "automaton": ("0.3-0.4", "0.4-0.5", "0.5-0.6", "0.6-1"),
    "freeform": ("0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5"),
    "brush-square": ("0.1-0.2", "0.2-0.3", "0.3-0.4"),
    "strokes": ("0.01-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5", "0.5-0.6", "0.6-1"),
    "strokes-clear-border": ("0.01-0.1", "0.1-0.2", "0.2-0.3", "0.3-0.4", "0.4-0.5", "0.5-0.6"),
    "centre": ("0.2-0.3",),
}


@pytest.mark.parametrize("family", list(REACHED))
def test_a_family_reaches_the_bins_that_its_statistics_promise(family: str) -> None:
    for name in REACHED[family]:
        make_mask_spec(family, 256, 256, "reached", bin=name)


@pytest.mark.parametrize("name", ["0-0.01", "0.01-0.1"])
def test_a_square_of_fourteen_percent_cannot_be_smaller(name: str) -> None:
    with pytest.raises(UsageError, match=r"only 0\.0% of .* or one of 0\.1-0\.2, 0\.2-0\.3"):
        make_mask_spec("brush-square", 256, 256, "small", bin=name)


def test_a_bin_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown hole-ratio bin '10-20': use one of any, 0-0\.01, 0\.01-0\.1"):
        make_mask_spec("rectangle", 256, 256, "unknown", bin="10-20")


def test_a_line_of_an_unreachable_bin_ends_with_a_reason() -> None:
    line = "centre 1 drawn=64x64 64x64 0.5-0.6 0/mask/1"
    with pytest.raises(
        UsageError, match=r"came out empty or full or not in 0\.5-0\.6. Use a larger canvas or another bin"
    ):
        parse_mask_spec(line).draw()


def test_a_wanted_bin_changes_the_choice_and_not_the_way_of_drawing() -> None:
    free = [make_mask_spec("strokes", 256, 256, "kept", n).draw() for n in range(200)]
    kept = [
        make_mask_spec("strokes", 256, 256, "kept", n, bin=find_bin(mask)).draw() for n, mask in enumerate(free[:30])
    ]
    assert all(np.array_equal(*pair) for pair in zip(kept, free, strict=False))
