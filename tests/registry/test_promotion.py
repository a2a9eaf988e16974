"""The gate before the champion: who passes, what is remembered, what is refused, and the way back."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra.tracking import Tracking, Version
from jobs import promote as promote_verb
from jobs import rollback as rollback_verb
from jobs.faults import NotDone
from pipelines.checkpoints import Checkpoint, open_checkpoint
from pipelines.evaluation import scorecard
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.scorecard import Scorecard, pairs_digest, pairs_of, save_scorecard
from pipelines.manifest import Dataset, read_parquet
from pipelines.records import Damaged, Refused, sha256_hex
from pipelines.registry.package import SCORES_TAG, WEIGHTS_TAG, scores_digest
from pipelines.registry.promotion import CHAMPION, VERDICT_TAG, promote, rollback
from pipelines.training.run import TrainRun
from pipelines.versions import list_files, version_tags

NAME = "inpainter"


@pytest.fixture(scope="module")
def card(trained: TrainRun, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    """The scores of the trained weights."""
    out = str(tmp_path_factory.mktemp("scores"))
    return evaluate(trained.out, dataset.uri, "val", "centre-square", out, lambda *_: None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking database; making one takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}").versions("none")
    return path


@dataclass
class Registry:
    """A registry of one's own, and a quick way to put versions into it."""

    tracking: Tracking
    checkpoint: Checkpoint
    card: Scorecard
    folder: Path

    def add(self, gain_db: float = 0.0, telea_db: float = -9.0, **passport: Any) -> Version:
        """A version whose PSNR is so much higher than that of the trained weights, on every pair; so is Telea's."""
        rows = [_scored(row, gain_db, telea_db) for row in self.card.rows]
        return self.add_card(replace(self.card, rows=rows, passport=self.card.passport | passport))

    def add_card(self, card: Scorecard, weights: bytes | None = None) -> Version:
        """A version with this scorecard, of the trained weights or of others."""
        files = self.files(str(len(self.tracking.versions(NAME)) + 1))
        files.mkdir(parents=True)
        (files / "generator.safetensors").write_bytes(weights or self.checkpoint.read("generator"))
        save_scorecard(card, str(files))
        run = self.tracking.open_run("run", "tiny", {}, {})
        return self.tracking.create_version(NAME, files.parent.as_uri(), run, tags(files))

    def files(self, number: str) -> Path:
        """Where the files of a version lie."""
        return self.folder / number / "artifacts"

    @property
    def champion(self) -> str | None:
        """The number of the champion."""
        found = self.tracking.aliased(NAME, CHAMPION)
        return found.number if found else None


def _scored(row: dict[str, Any], gain_db: float, telea_db: float) -> dict[str, Any]:
    """The row with PSNR in the hole so much higher, Telea's by as much as said, Navier-Stokes' by one less."""
    mean = row["psnr_hole"]
    baselines = {"telea": mean + telea_db, "navier-stokes": mean + telea_db - 1}
    beside = {name: row["baselines"][name] | {"psnr_hole": value} for name, value in baselines.items()}
    return row | {"psnr_hole": mean + gain_db, "baselines": beside}


def tags(files: Path) -> dict[str, str]:
    """What a registration writes down of weights and scores, whatever they are."""
    facts, rows = json.loads((files / "scores.json").read_bytes()), read_parquet((files / "pairs.parquet").read_bytes())
    scores = scores_digest(Scorecard(facts["model"], facts["passport"], rows.to_pylist()))
    digests = {WEIGHTS_TAG: sha256_hex((files / "generator.safetensors").read_bytes()), SCORES_TAG: scores}
    return digests | version_tags(list_files(files.parent))


@pytest.fixture
def registry(
    database: Path, trained: TrainRun, card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    """An empty registry."""
    uri = f"sqlite:///{shutil.copy(database, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield Registry(Tracking(uri), open_checkpoint(trained.out), card, tmp_path / "versions")


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
    rows = [_scored(row, 0.0, -9.0) for row in registry.card.rows]
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
    with pytest.raises(Refused, match="no champion before the present one"):
        rollback(NAME, registry.tracking)


def test_force_promotes_a_first_version_and_its_verdict_says_so(registry: Registry) -> None:
    registry.add(telea_db=0.5)
    verdict = promote(NAME, "1", registry.tracking, "a trial with few photos")
    assert (verdict.promoted, verdict.forced, registry.champion) == (True, "a trial with few photos", "1")
    assert verdict.reason.startswith("forced: a trial with few photos (")
    assert ", Telea has " in verdict.reason
    kept = json.loads(registry.tracking.version(NAME, "1").tags[VERDICT_TAG])
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
    with pytest.raises(Refused, match=r"--force is .*: give the reason, in 1 to 500 characters"):
        promote(NAME, "1", registry.tracking, reason)
    assert registry.champion is None


def test_force_overrides_neither_damage_nor_unlike_passports(registry: Registry) -> None:
    registry.add()
    registry.add(1.0, resize="other")
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    with pytest.raises(Refused, match="unlike passports are not compared: resize is 'other'"):
        promote(NAME, "2", registry.tracking, "a reason")
    flip_byte(registry.files("3") / "generator.safetensors")
    with pytest.raises(Damaged, match=r"models:/inpainter/3: artifacts/generator\.safetensors has SHA-256"):
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
    rows = [_scored(row, 1.0, -9.0) for row in registry.card.rows]
    rows[4]["psnr_hole"] = value
    with monkeypatch.context() as patch:  # what wrote them did not look
        patch.setattr(scorecard, "refuse_non_finite", lambda *_: None)
        version = registry.add_card(replace(registry.card, rows=rows))
    with pytest.raises(Refused, match=rf"{version.uri}: .*: psnr_hole is {value} for .* with mask '"):
        promote(NAME, version.number, registry.tracking, force)
    assert registry.champion == ("1" if champion else None)


def test_scores_without_baselines_are_refused_for_a_first_version_only(registry: Registry) -> None:
    older = [{name: value for name, value in row.items() if name != "baselines"} for row in registry.card.rows]
    registry.add_card(replace(registry.card, rows=older))
    for force in (None, "a reason"):
        with pytest.raises(Refused, match=r"lack telea and navier-stokes, .*: evaluate again with another --out"):
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
    rows = [_scored(row, 0.02 * n - 0.5, -9.0) for n, row in enumerate(registry.card.rows)]
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
    with pytest.raises(Damaged, match=words):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_a_champion_whose_record_is_refused_by_now_gives_way_to_its_own_weights_alone(
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
    with pytest.raises(Refused, match=r"inpainter/2: .* is nan for .*; register the champion's checkpoint again"):
        promote(NAME, "3", registry.tracking, "a reason")
    assert registry.champion == "2"
    assert promote(NAME, "4", registry.tracking).reason.startswith("the champion's own weights, registered anew: ")
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
    kept = json.loads(registry.tracking.version(NAME, "2").tags[VERDICT_TAG])
    assert kept == json.loads(json.dumps(verdict.as_json()))
    assert (kept["champion"], kept["comparison"]["seed"], kept["comparison"]["metric"]) == ("1", 0, "psnr_hole")


def test_the_champion_promoted_again_tells_its_verdict_and_changes_nothing(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    first = promote(NAME, "2", registry.tracking)
    tags_before = registry.tracking.version(NAME, "2").tags
    again = promote(NAME, "2", registry.tracking)
    assert (again.promoted, again.reason, again.champion) == (True, first.reason, "1")
    assert registry.tracking.version(NAME, "2").tags == tags_before


def test_an_alias_that_was_moved_by_hand_is_no_promotion(registry: Registry) -> None:
    """Else the gate would call a version promoted, for the reason why it was not."""
    registry.add()
    registry.add(-1.0)
    promote(NAME, "1", registry.tracking)
    promote(NAME, "2", registry.tracking)
    registry.tracking.move_alias(NAME, CHAMPION, "2")
    with pytest.raises(NotDone, match=r"is champion by an alias .*: not better with confidence") as kept:
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


def test_a_damaged_champion_is_not_confirmed_and_gives_way_to_its_own_weights_alone(registry: Registry) -> None:
    registry.add()
    promote(NAME, "1", registry.tracking)
    flip_byte(registry.files("1") / "generator.safetensors")
    with pytest.raises(Damaged, match=r"models:/inpainter/1: artifacts/generator.safetensors has SHA-256"):
        promote(NAME, "1", registry.tracking)
    registry.add_card(registry.card, b"other weights")
    with pytest.raises(Damaged, match=r"inpainter/1: .* register the champion's checkpoint again and promote that"):
        promote(NAME, "2", registry.tracking, "a reason")
    assert registry.champion == "1"
    registry.add()
    assert promote(NAME, "3", registry.tracking).reason.startswith("the champion's own weights, registered anew: ")
    assert registry.champion == "3"


def test_rollback_goes_back_to_the_champion_before(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    registry.add(2.0)
    for number in ("1", "2", "3"):
        promote(NAME, number, registry.tracking)
    assert rollback(NAME, registry.tracking).number == registry.champion == "2"
    assert rollback(NAME, registry.tracking).number == registry.champion == "1"
    with pytest.raises(Refused, match=r"model 'inpainter' has no champion before the present one"):
        rollback(NAME, registry.tracking)
    assert registry.champion == "1"


def test_rollback_without_a_champion_is_refused(registry: Registry) -> None:
    with pytest.raises(Refused, match="nothing to roll back to"):
        rollback("nobody", registry.tracking)


def test_a_version_that_is_not_there_is_told_with_those_that_are(registry: Registry) -> None:
    registry.add()
    with pytest.raises(FileNotFoundError, match=r"no version 9 of model 'inpainter' at .*: its versions are 1"):
        promote(NAME, "9", registry.tracking)


def test_scores_on_other_pairs_are_refused(registry: Registry) -> None:
    registry.add()
    rows = [row | {"key": f"other/{row['key']}"} for row in registry.card.rows]
    passport = registry.card.passport | {"pairs_sha256": pairs_digest(pairs_of(rows))}
    registry.add_card(replace(registry.card, rows=rows, passport=passport))
    promote(NAME, "1", registry.tracking)
    with pytest.raises(Refused, match="unlike passports are not compared: pairs_sha256 is"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


@pytest.mark.parametrize("field", ["manifest_sha256", "resize"])
def test_scores_measured_otherwise_are_refused(registry: Registry, field: str) -> None:
    registry.add()
    changed: Any = {field: "other"}
    registry.add(9.0, **changed)
    promote(NAME, "1", registry.tracking)
    with pytest.raises(Refused, match=rf"unlike passports are not compared: {field} is 'other' on one side"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


@pytest.mark.parametrize("who", ["1", "2"])
def test_damaged_weights_stop_a_promotion_whether_champion_or_challenger(registry: Registry, who: str) -> None:
    registry.add()
    registry.add_card(registry.card, b"other weights")
    promote(NAME, "1", registry.tracking)
    flip_byte(registry.files(who) / "generator.safetensors")
    with pytest.raises(Damaged, match=f"models:/inpainter/{who}: artifacts/generator.safetensors has SHA-256"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


def test_missing_weights_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "generator.safetensors").unlink()
    with pytest.raises(Damaged, match=r"models:/inpainter/1: artifacts/generator\.safetensors is missing"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_scores_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "scores.json").unlink()
    with pytest.raises((Damaged, Refused), match="scores"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_pairs_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    (registry.files("1") / "pairs.parquet").unlink()
    with pytest.raises((Damaged, Refused, OSError), match=r"pairs\.parquet"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_missing_files_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    shutil.rmtree(registry.files("1").parent)
    with pytest.raises((Damaged, OSError), match=r"models:/inpainter/1"):
        promote(NAME, "1", registry.tracking)
    assert registry.champion is None


def test_scores_that_were_exchanged_stop_a_promotion(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    registry.add(1.0)
    promote(NAME, "1", registry.tracking)
    for name in ("scores.json", "pairs.parquet"):
        shutil.copy(registry.files("3") / name, registry.files("2") / name)
    with pytest.raises(Damaged, match=r"models:/inpainter/2"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


def test_rollback_to_a_damaged_version_is_refused(registry: Registry) -> None:
    registry.add()
    registry.add(1.0)
    for number in ("1", "2"):
        promote(NAME, number, registry.tracking)
    flip_byte(registry.files("1") / "generator.safetensors")
    with pytest.raises(Damaged, match="models:/inpainter/1"):
        rollback(NAME, registry.tracking)
    assert registry.champion == "2"


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
    with pytest.raises(Refused, match=r"the champion of 'inpainter' changed meanwhile"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "3"
    kept = json.loads(registry.tracking.version(NAME, "2").tags[VERDICT_TAG])
    assert not kept["promoted"]
    assert "changed meanwhile" in kept["reason"]


def test_the_verb_tells_why_a_first_version_stays_and_promotes_it_by_force(registry: Registry) -> None:
    registry.add(telea_db=0.5)
    with pytest.raises(NotDone, match=r"stays as it is: .* Telea has .*; train on, or promote it with --force") as kept:
        promote_verb.run(promote_verb.Arguments(NAME, "1"))
    assert kept.value.exit_code == 1
    assert (kept.value.report["promoted"], kept.value.report["champion_version"]) == (False, None)
    assert set(kept.value.report["verdict"]["baselines"]) == {"telea", "navier-stokes"}
    forced = promote_verb.run(promote_verb.Arguments(NAME, "1", "a trial"))
    assert (forced["champion_version"], forced["verdict"]["forced"]) == ("1", "a trial")


def test_the_verbs_report_what_was_done(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    registry.add(1.0)
    first = promote_verb.run(promote_verb.Arguments(NAME, "1"))
    assert (first["promoted"], first["champion_version"]) == (True, "1")
    with pytest.raises(NotDone, match="version 2 of 'inpainter' stays as it is: not better") as kept:
        promote_verb.run(promote_verb.Arguments(NAME, "2"))
    assert kept.value.exit_code == 1
    assert (kept.value.report["promoted"], kept.value.report["champion_version"]) == (False, "1")
    assert promote_verb.run(promote_verb.Arguments(NAME, "3"))["verdict"]["champion"] == "1"
    assert rollback_verb.run(rollback_verb.Arguments(NAME)) == {"model": NAME, "champion_version": "1"}


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
