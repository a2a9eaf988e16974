"""The paired comparison and the gate's verdict on it: constructed gains, unlike pairs and passports, chance alone."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.comparison import Comparison, Interval, compare
from pipelines.evaluation.scorecard import Scorecard
from pipelines.masks.bins import BINS
from pipelines.records import CorruptDataError, UsageError
from pipelines.registry.promotion import MARGIN_DB, judge

pytestmark = pytest.mark.thorough

SMALL, LARGE = BINS[2], BINS[5]
PASSPORT: dict[str, Any] = {"manifest_sha256": "d" * 64, "resize": "squash", "pairs_sha256": "p" * 64, "num_pairs": 60}


def card(psnr: Any, *, l1: Any = 0.0, per_photo: int = 2, bins: tuple[str, ...] = (SMALL, LARGE)) -> Scorecard:
    """A scorecard with these values of PSNR, photo by photo, the pairs of a photo in these bins in turn."""
    values = np.atleast_1d(np.asarray(psnr, float))
    l1s = np.broadcast_to(np.asarray(l1, float), values.shape)
    rows = [
        {
            "key": f"photo{n // per_photo}",
            "recipe": f"mask {n % per_photo}",
            "bin": bins[n % len(bins)],
            "psnr_hole": float(v),
            "l1_hole": float(w),
        }
        for n, (v, w) in enumerate(zip(values, l1s, strict=True))
    ]
    return Scorecard({"model": "m"}, PASSPORT, rows)


def scores(seed: int, photos: int = 30, per_photo: int = 2) -> np.ndarray:
    """Scores as photos have them: some are harder than others."""
    rng = np.random.default_rng(seed)
    return np.repeat(25 + 3 * rng.standard_normal(photos), per_photo) + rng.standard_normal(photos * per_photo)


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 60)


def test_equal_models_gain_nothing_and_are_not_promoted() -> None:
    result = compare(card(scores(0)), card(scores(0)), "psnr_hole")
    assert (result.overall.gain, result.overall.low, result.overall.high) == (0, 0, 0)
    verdict = judge(result, "1")
    assert (verdict.promoted, verdict.champion) == (False, "1")
    assert verdict.reason.startswith("not better with confidence: +0.00 dB psnr_hole")


def test_a_constant_gain_is_found_exactly_and_promoted() -> None:
    result = compare(card(scores(0) + 0.5), card(scores(0)), "psnr_hole")
    for found in (result.overall, *result.bins.values()):
        assert (found.gain, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert judge(result, "1").promoted
    assert set(result.bins) == {SMALL, LARGE}
    assert (result.overall.num_pairs, result.bins[SMALL].num_pairs) == (60, 30)


def test_a_loss_is_a_negative_gain() -> None:
    result = compare(card(scores(0) - 0.5), card(scores(0)), "psnr_hole")
    assert result.overall.gain == pytest.approx(-0.5)
    assert not judge(result, "1").promoted


def test_less_error_is_a_gain_too() -> None:
    result = compare(card(scores(0), l1=2.0), card(scores(0), l1=3.0), "l1_hole")
    assert result.overall.gain == pytest.approx(1.0)


def test_a_bin_that_is_worse_than_the_margin_stops_the_promotion_and_is_named() -> None:
    gains = np.tile([2.0, -0.2], 30)
    verdict = judge(compare(card(scores(0) + gains), card(scores(0)), "psnr_hole"), "1")
    assert not verdict.promoted
    assert verdict.reason == f"better overall, +0.90 dB psnr_hole [+0.90, +0.90], but worse in bin {LARGE}"


def test_a_bin_that_is_worse_within_the_margin_does_not() -> None:
    gains = np.tile([2.0, -MARGIN_DB / 2], 30)
    assert judge(compare(card(scores(0) + gains), card(scores(0)), "psnr_hole"), "1").promoted


@pytest.mark.parametrize(
    ("overall", "bins", "promoted"),
    [
        (interval(0.01, 1.0), {SMALL: interval(-5.0, 5.0)}, True),
        (interval(0.0, 1.0), {}, False),
        (interval(-0.01, 9.0), {}, False),
        (interval(0.01, 1.0), {SMALL: interval(-5.0, -MARGIN_DB - 1e-9)}, False),
        (interval(0.01, 1.0), {SMALL: interval(-5.0, -MARGIN_DB)}, True),
    ],
)
def test_the_verdict_follows_from_the_intervals(overall: Interval, bins: dict[str, Interval], promoted: bool) -> None:
    assert judge(Comparison("psnr_hole", 0, overall, bins), "7").promoted == promoted


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["gain", "low", "high"])
@pytest.mark.parametrize("bin_name", ["all", SMALL])
def test_an_interval_that_is_not_finite_is_never_promoted_in_strict_json(
    value: float, where: str, bin_name: str
) -> None:
    intervals = {name: interval(0.5, 1.0) for name in ("all", SMALL)}
    changes: Any = {where: value}
    intervals[bin_name] = replace(intervals[bin_name], **changes)
    verdict = judge(Comparison("psnr_hole", 0, intervals["all"], {SMALL: intervals[SMALL]}), "7")
    assert (verdict.promoted, verdict.reason) == (
        False,
        f"not judged: the gain in bin {bin_name} is not a finite number",
    )
    stored = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    found = stored["comparison"]["overall"] if bin_name == "all" else stored["comparison"]["bins"][bin_name]
    assert found[where] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_score_that_is_not_finite_is_refused_with_its_pair(value: float, side: int) -> None:
    values = scores(0)
    values[5] = value
    cards = [card(scores(0)), card(scores(0))]
    cards[side] = card(values)
    with pytest.raises(UsageError, match=r"psnr_hole is -?(nan|inf) for photo2 with mask 'mask 1'"):
        compare(cards[0], cards[1], "psnr_hole")


def test_finite_scores_whose_gains_are_not_are_refused() -> None:
    with (
        np.errstate(all="ignore"),
        pytest.raises(UsageError, match="the gains in psnr_hole do not add up to a finite number"),
    ):
        compare(card(np.full(60, 1e308)), card(np.full(60, -1e308)), "psnr_hole")


@settings(max_examples=15)
@given(st.permutations(range(24)), st.permutations(range(24)), st.integers(0, 99))
def test_the_order_of_rows_changes_no_digit(one: list[int], other: list[int], seed: int) -> None:
    ours, theirs = (card(scores(seed + n, photos=12)) for n in (1, 2))
    ours_turned = replace(ours, rows=[ours.rows[n] for n in one])
    theirs_turned = replace(theirs, rows=[theirs.rows[n] for n in other])
    assert compare(ours_turned, theirs_turned, "psnr_hole") == compare(ours, theirs, "psnr_hole")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            lambda rows: rows[::2],
            UsageError,
            r"the challenger has (60|30) pairs, the champion (60|30): 30 only of the (challenger|champion) "
            r"\(such as photo0 with mask 'mask 1'\). Evaluate and register both again",
        ),
        (
            lambda rows: [row | {"key": row["key"] + "x"} for row in rows],
            UsageError,
            r"the champion 60: 60 only of the challenger \(such as photo0x? .*, 60 only of the champion \(such",
        ),
        (
            lambda rows: [row | {"recipe": "mask 9"} if n == 7 else row for n, row in enumerate(rows)],
            UsageError,
            r"1 only of the .*photo3 with mask 'mask 9'",
        ),
        (
            lambda rows: rows + rows[:10],
            CorruptDataError,
            r"scores of the (challenger|champion): 10 of 60 pairs have several rows, photo0 with mask 'mask 0' has 2",
        ),
        (
            lambda rows: [row | {"bin": BINS[0]} if n == 7 else row for n, row in enumerate(rows)],
            UsageError,
            rf"photo3 with mask 'mask 1' is in bin ({BINS[0]}|{LARGE}) on one side",
        ),
    ],
    ids=["half", "other keys", "another mask", "doubled", "another bin"],
)
def test_cards_of_other_pairs_are_refused_with_counts_and_an_example(
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], kind: type[Exception], words: str
) -> None:
    whole = card(scores(0))
    other = replace(whole, rows=change(whole.rows))
    for ours, theirs in ((whole, other), (other, whole)):
        with pytest.raises(kind, match=words):
            compare(ours, theirs, "psnr_hole")


def test_bins_with_few_photos_are_not_judged() -> None:
    nine = card(scores(0, photos=9, per_photo=1), per_photo=1)  # five in the one bin, four in the other
    assert set(compare(nine, nine, "psnr_hole").bins) == {SMALL}
    enough = card(scores(0, photos=5))
    assert set(compare(enough, enough, "psnr_hole").bins) == {SMALL, LARGE}


def test_too_few_photos_prove_nothing() -> None:
    few = card(scores(0, photos=4))
    with pytest.raises(UsageError, match="4 held-out photos are too few for a comparison: hold out at least 5"):
        compare(few, few, "psnr_hole")


def test_the_bootstrap_is_deterministic_and_depends_on_its_seed() -> None:
    one, other = card(scores(1)), card(scores(2))
    assert compare(one, other, "psnr_hole", seed=3) == compare(one, other, "psnr_hole", seed=3)
    assert compare(one, other, "psnr_hole", seed=3) != compare(one, other, "psnr_hole", seed=4)


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()
    compare(card(scores(1)), card(scores(2)), "psnr_hole")
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before


def test_the_interval_is_as_wide_as_that_of_the_mean() -> None:
    gains = np.random.default_rng(5).standard_normal(400)
    found = compare(card(gains, per_photo=1), card(np.zeros(400), per_photo=1), "psnr_hole").overall
    error = gains.std() / np.sqrt(400)
    assert found.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.15 * error)


def test_more_masks_of_the_same_photos_prove_no_more() -> None:
    gains = np.random.default_rng(6).standard_normal(30)
    once = compare(card(gains, per_photo=1, bins=(SMALL,)), card(0 * gains, per_photo=1, bins=(SMALL,)), "psnr_hole")
    thrice = np.repeat(gains, 3)
    many = compare(card(thrice, per_photo=3, bins=(SMALL,)), card(0 * thrice, per_photo=3, bins=(SMALL,)), "psnr_hole")
    assert (many.overall.low, many.overall.high) == pytest.approx((once.overall.low, once.overall.high))
    assert (many.overall.num_pairs, once.overall.num_pairs) == (90, 30)


@pytest.mark.parametrize("field", PASSPORT)
def test_unlike_passports_are_refused_with_the_field(field: str) -> None:
    one = card(scores(0))
    for other in ({**PASSPORT, field: "other"}, {k: v for k, v in PASSPORT.items() if k != field}):
        with pytest.raises(UsageError, match=rf"unlike passports are not compared: {field} is "):
            compare(one, replace(one, passport=other), "psnr_hole")
        with pytest.raises(UsageError, match=rf"unlike passports are not compared: {field} is "):
            compare(replace(one, passport=other), one, "psnr_hole")


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"the scores of the challenger have no psnr: use one of psnr_hole, "):
        compare(card(scores(0)), card(scores(0)), "psnr")


def test_chance_alone_promotes_about_one_in_forty() -> None:
    promoted = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth, noise = scores(seed), 0.5 * rng.standard_normal((2, 60))
        promoted += judge(compare(card(truth + noise[0]), card(truth + noise[1]), "psnr_hole", seed), "1").promoted
    assert promoted < 0.07 * 200
    assert promoted > 0  # a gate that nothing passes proves nothing


def test_a_real_gain_is_usually_found() -> None:
    promoted = 0
    for seed in range(40):
        truth, noise = scores(seed), 0.5 * np.random.default_rng(seed).standard_normal((2, 60))
        promoted += judge(compare(card(truth + 0.4 + noise[0]), card(truth + noise[1]), "psnr_hole"), "1").promoted
    assert promoted > 0.8 * 40
