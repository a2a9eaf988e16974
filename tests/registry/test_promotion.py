"""The gate before the champion: who passes, what is remembered, what is refused, and the way back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.tracking import Version
from jobs import promote as promote_verb
from jobs.faults import VerbError
from pipelines.evaluation import scorecard
from pipelines.evaluation.scorecard import hash_pairs, list_pairs
from pipelines.records import CorruptDataError, UsageError
from pipelines.registry.promotion import CHAMPION, VERDICT_TAG, promote, rollback
from tests.registry.registries import NAME, Registry, flip_byte, score_model

pytestmark = pytest.mark.thorough


def test_the_first_version_becomes_champion(registry: Registry) -> None:
    registry.add()
    verdict = promote(NAME, "1", registry.tracking)
    assert (verdict.promoted, verdict.champion, verdict.comparison, verdict.forced) == (True, None, None, None)
    mean = registry.card.mean("psnr_hole")
    assert verdict.score == pytest.approx(mean)
    assert verdict.baselines == pytest.approx({"telea": mean - 9, "navier-stokes": mean - 10})
    assert verdict.reason == (
        f"the first version: {mean:.2f} dB in the hole (Navier-Stokes {mean - 10:.2f}, Telea {mean - 9:.2f})"
    )
    assert registry.champion == "1"


@pytest.mark.parametrize(("telea_db", "best"), [(0.3, "Telea"), (1.2, "Telea"), (-0.1, "none")])
def test_a_first_version_below_a_classical_method_is_not_promoted(
    registry: Registry, telea_db: float, best: str
) -> None:
    registry.add(telea_db=telea_db)
    verdict = promote(NAME, "1", registry.tracking)
    mean = registry.card.mean("psnr_hole")
    assert verdict.promoted == (best == "none")
    if not verdict.promoted:
        assert verdict.reason == f"{mean:.2f} dB in the hole, {best} has {mean + telea_db:.2f}"
    assert registry.champion == (None if best == "Telea" else "1")


def test_navier_stokes_alone_stops_a_first_version_too(registry: Registry) -> None:
    rows = [score_model(row, 0.0, -9.0) for row in registry.card.rows]
    better = [
        r | {"baselines": r["baselines"] | {"navier-stokes": r["baselines"]["telea"] | {"psnr_hole": 99.0}}}
        for r in rows
    ]
    registry.add_card(replace(registry.card, rows=better))
    verdict = promote(NAME, "1", registry.tracking)
    assert not verdict.promoted
    assert verdict.reason.endswith("dB in the hole, Navier-Stokes has 99.00")


def test_after_a_first_version_that_did_not_pass_the_next_is_judged_as_the_first(registry: Registry) -> None:
    registry.add(telea_db=0.5)
    registry.add(1.0, telea_db=0.5)
    assert not promote(NAME, "1", registry.tracking).promoted
    verdict = promote(NAME, "2", registry.tracking)
    assert (verdict.promoted, verdict.champion, registry.champion) == (True, None, "2")
    with pytest.raises(UsageError, match="no champion before the present one"):
        rollback(NAME, registry.tracking)


def test_force_promotes_a_first_version_and_its_verdict_says_so(registry: Registry) -> None:
    registry.add(telea_db=0.5)
    verdict = promote(NAME, "1", registry.tracking, "a trial with few photos")
    assert (verdict.promoted, verdict.forced, registry.champion) == (True, "a trial with few photos", "1")
    assert verdict.reason.startswith("forced: a trial with few photos (")
    assert ", Telea has " in verdict.reason
    kept = json.loads(registry.tracking.get_version(NAME, "1").tags[VERDICT_TAG])
    assert (kept["promoted"], kept["forced"]) == (True, "a trial with few photos")
    again = promote(NAME, "1", registry.tracking)
    assert (again.forced, again.reason, again.baselines) == (verdict.forced, verdict.reason, verdict.baselines)


def test_force_overrides_a_comparison_and_rollback_undoes_it(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    promote(NAME, "1", registry.tracking)
    verdict = promote(NAME, "2", registry.tracking, "its license is free")
    assert (
        verdict.reason == "forced: its license is free (not better with confidence: -1.00 dB psnr_hole [-1.00, -1.00])"
    )
    assert (verdict.promoted, verdict.forced, registry.champion) == (True, "its license is free", "2")
    assert verdict.comparison is not None
    assert rollback(NAME, registry.tracking).number == "1"


def test_force_that_was_not_needed_leaves_no_trace(registry: Registry) -> None:
    registry.add()
    verdict = promote(NAME, "1", registry.tracking, "in any case")
    assert (verdict.promoted, verdict.forced) == (True, None)
    assert "forced" not in verdict.reason


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_force_without_a_reason_is_refused(registry: Registry, reason: str) -> None:
    registry.add()
    with pytest.raises(UsageError, match=r"--force is .*: give the reason, in 1 to 500 characters"):
        promote(NAME, "1", registry.tracking, reason)
    assert registry.champion is None


def test_force_overrides_neither_damage_nor_unlike_passports(registry: Registry) -> None:
    registry.add()
    registry.add(1.0, resize="other")
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    with pytest.raises(UsageError, match="unlike passports are not compared: resize is 'other'"):
        promote(NAME, "2", registry.tracking, "a reason")
    flip_byte(registry.files("3") / "generator.safetensors")
    with pytest.raises(CorruptDataError, match=r"models:/inpainter/3: artifacts/generator\.safetensors has SHA-256"):
        promote(NAME, "3", registry.tracking, "a reason")
    assert registry.champion == "1"


@pytest.mark.parametrize("force", [None, "a reason"])
@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_never_promoted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, value: float, champion: bool, force: str | None
) -> None:
    if champion:
        registry.add()
        promote(NAME, "1", registry.tracking)
    rows = [score_model(row, 1.0, -9.0) for row in registry.card.rows]
    rows[4]["psnr_hole"] = value
    with monkeypatch.context() as patch:  # what wrote them did not look
        patch.setattr(scorecard, "refuse_non_finite", lambda *_: None)
        version = registry.add_card(replace(registry.card, rows=rows))
    with pytest.raises(UsageError, match=rf"{version.uri}: .*: psnr_hole is {value} for .* with mask '"):
        promote(NAME, version.number, registry.tracking, force)
    assert registry.champion == ("1" if champion else None)


def test_scores_without_baselines_are_refused_for_a_first_version_only(registry: Registry) -> None:
    older = [{name: value for name, value in row.items() if name != "baselines"} for row in registry.card.rows]
    registry.add_card(replace(registry.card, rows=older))
    for force in (None, "a reason"):
        with pytest.raises(UsageError, match=r"lack telea and navier-stokes, .*Evaluate again with another --out"):
            promote(NAME, "1", registry.tracking, force)
    registry.add()
    promote(NAME, "2", registry.tracking)
    better = [row | {"psnr_hole": row["psnr_hole"] + 1} for row in older]
    registry.add_card(replace(registry.card, rows=better))
    assert promote(NAME, "3", registry.tracking).promoted


def test_a_challenger_that_beats_its_champion_and_not_telea_says_so(registry: Registry) -> None:
    registry.add(telea_db=2.0)
    registry.add(0.5, telea_db=2.0)
    promote(NAME, "1", registry.tracking, "a start")
    verdict, mean = promote(NAME, "2", registry.tracking), registry.card.mean("psnr_hole")
    assert verdict.promoted
    assert verdict.reason.endswith(f"; {mean + 0.5:.2f} dB in the hole, Telea has {mean + 2:.2f}")
    assert verdict.baselines["telea"] == pytest.approx(mean + 2)


def test_shuffled_rows_give_the_same_verdict(registry: Registry) -> None:
    registry.add()
    rows = [score_model(row, 0.02 * n - 0.5, -9.0) for n, row in enumerate(registry.card.rows)]
    for some in (rows, rows[::-1], rows[5:] + rows[:5]):
        registry.add_card(replace(registry.card, rows=some))
    promote(NAME, "1", registry.tracking)
    first, *others = (promote(NAME, number, registry.tracking) for number in ("2", "3", "4"))
    assert not first.promoted
    assert [v.comparison for v in others] == [first.comparison] * 2


@pytest.mark.parametrize("keep", [slice(None, None, 2), slice(None, 9)])
def test_half_of_the_rows_is_refused_with_counts(registry: Registry, keep: slice) -> None:
    rows = registry.card.rows[keep]
    registry.add_card(replace(registry.card, rows=rows))
    words = f"models:/inpainter/1: .*: {len(rows)} rows, the passport counts {len(registry.card.rows)} pairs"
    with pytest.raises(CorruptDataError, match=words):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_a_champion_of_a_refused_record_gives_way_to_its_own_weights_alone(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add()
    promote(NAME, "1", registry.tracking)
    rows = [row | {"psnr_hole": float("nan")} for row in registry.card.rows]
    with monkeypatch.context() as patch:  # from before anybody looked
        patch.setattr(scorecard, "refuse_non_finite", lambda *_: None)
        old = registry.add_card(replace(registry.card, rows=rows))
        registry.tracking.move_alias(NAME, CHAMPION, old.number)
    registry.add_card(registry.card, b"other weights")
    registry.add()
    with pytest.raises(UsageError, match=r"inpainter/2: .* is nan for .*\. Register the champion's checkpoint again"):
        promote(NAME, "3", registry.tracking, "a reason")
    assert registry.champion == "2"
    assert promote(NAME, "4", registry.tracking).reason.startswith("the champion's own weights, registered again: ")
    assert registry.champion == "4"


def test_equal_weights_do_not_pass(registry: Registry) -> None:
    registry.add()
    registry.add()
    promote(NAME, "1", registry.tracking)
    verdict = promote(NAME, "2", registry.tracking)
    assert (verdict.promoted, verdict.champion) == (False, "1")
    assert verdict.reason == "not better with confidence: +0.00 dB psnr_hole [+0.00, +0.00]"
    assert registry.champion == "1"


def test_a_worse_version_does_not_pass_and_a_better_one_does(registry: Registry) -> None:
    for gain in (0.0, -1.0, 0.5):
        registry.add(gain)
    promote(NAME, "1", registry.tracking)
    assert not promote(NAME, "2", registry.tracking).promoted
    assert registry.champion == "1"
    verdict = promote(NAME, "3", registry.tracking)
    assert (verdict.promoted, verdict.champion, registry.champion) == (True, "1", "3")
    assert verdict.comparison is not None
    assert verdict.comparison.overall.gain == pytest.approx(0.5)


def test_the_verdict_is_kept_with_the_version(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    promote(NAME, "1", registry.tracking)
    verdict = promote(NAME, "2", registry.tracking)
    kept = json.loads(registry.tracking.get_version(NAME, "2").tags[VERDICT_TAG])
    assert kept == json.loads(json.dumps(verdict.as_json()))
    assert (kept["champion"], kept["comparison"]["seed"], kept["comparison"]["metric"]) == ("1", 0, "psnr_hole")


def test_the_champion_promoted_again_keeps_its_verdict_and_changes_nothing(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    first = promote(NAME, "2", registry.tracking)
    tags_before = registry.tracking.get_version(NAME, "2").tags
    again = promote(NAME, "2", registry.tracking)
    assert (again.promoted, again.reason, again.champion) == (True, first.reason, "1")
    assert registry.tracking.get_version(NAME, "2").tags == tags_before


def test_an_alias_that_was_moved_by_hand_is_no_promotion(registry: Registry) -> None:
    """Else the gate would call a version promoted, for the reason why it was not."""
    registry.add()
    registry.add(-1.0)
    promote(NAME, "1", registry.tracking)
    promote(NAME, "2", registry.tracking)
    registry.tracking.move_alias(NAME, CHAMPION, "2")
    with pytest.raises(VerbError, match=r"is champion by an alias .*: not better with confidence") as kept:
        promote_verb.run(promote_verb.Arguments(NAME, "2"))
    assert (kept.value.exit_code, kept.value.report["champion_version"]) == (1, "2")
    assert promote(NAME, "2", registry.tracking, "a reason").forced == "a reason"
    again = promote(NAME, "2", registry.tracking)
    assert (again.promoted, again.forced, registry.champion) == (True, "a reason", "2")


def test_a_champion_that_was_never_judged_is_no_promotion(registry: Registry) -> None:
    registry.add()
    registry.tracking.move_alias(NAME, CHAMPION, "1")
    verdict = promote(NAME, "1", registry.tracking)
    assert not verdict.promoted
    assert verdict.reason.endswith("the gate's last verdict: none")


def test_rollback_goes_back_to_the_champion_before(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    registry.add(2.0)
    for number in ("1", "2", "3"):
        promote(NAME, number, registry.tracking)
    assert rollback(NAME, registry.tracking).number == registry.champion == "2"
    assert rollback(NAME, registry.tracking).number == registry.champion == "1"
    with pytest.raises(UsageError, match=r"model 'inpainter' has no champion before the present one"):
        rollback(NAME, registry.tracking)
    assert registry.champion == "1"


def test_rollback_without_a_champion_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="has no champion before"):
        rollback("nobody", registry.tracking)


def test_a_version_that_is_not_there_is_named_with_those_that_are(registry: Registry) -> None:
    registry.add()
    with pytest.raises(FileNotFoundError, match=r"no version 9 of model 'inpainter' at .*: its versions are 1"):
        promote(NAME, "9", registry.tracking)


def test_scores_on_other_pairs_are_refused(registry: Registry) -> None:
    registry.add()
    rows = [row | {"key": f"other/{row['key']}"} for row in registry.card.rows]
    passport = registry.card.passport | {"pairs_sha256": hash_pairs(list_pairs(rows))}
    registry.add_card(replace(registry.card, rows=rows, passport=passport))
    promote(NAME, "1", registry.tracking)
    with pytest.raises(UsageError, match="unlike passports are not compared: pairs_sha256 is"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


@pytest.mark.parametrize("field", ["manifest_sha256", "resize"])
def test_scores_measured_otherwise_are_refused(registry: Registry, field: str) -> None:
    registry.add()
    changed: Any = {field: "other"}
    registry.add(9.0, **changed)
    promote(NAME, "1", registry.tracking)
    with pytest.raises(UsageError, match=rf"unlike passports are not compared: {field} is 'other' on one side"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


def test_a_promotion_that_came_in_between_is_noticed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for gain in (0.0, 1.0, 2.0):
        registry.add(gain)
    promote(NAME, "1", registry.tracking)
    download = registry.tracking.download

    def slow_download(version: Version, folder: Path) -> Path:
        if version.number == "2":
            registry.tracking.move_alias(NAME, CHAMPION, "3")
        return download(version, folder)

    monkeypatch.setattr(registry.tracking, "download", slow_download)
    with pytest.raises(UsageError, match=r"the champion of 'inpainter' changed meanwhile"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "3"
    kept = json.loads(registry.tracking.get_version(NAME, "2").tags[VERDICT_TAG])
    assert not kept["promoted"]
    assert "changed meanwhile" in kept["reason"]
