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
from pipelines.evaluation.evaluate import Scorecard, evaluate, load_scorecard, save_scorecard
from pipelines.manifest import Dataset
from pipelines.records import Damaged, Refused
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

    def add(self, gain_db: float = 0.0, **passport: Any) -> Version:
        """A version whose PSNR is so much higher than that of the trained weights, on every pair."""
        rows = [row | {"psnr_hole": row["psnr_hole"] + gain_db} for row in self.card.rows]
        card = replace(self.card, rows=rows, passport=self.card.passport | passport)
        files = self.files(str(len(self.tracking.versions(NAME)) + 1))
        files.mkdir(parents=True)
        (files / "generator.safetensors").write_bytes(self.checkpoint.read("generator"))
        save_scorecard(card, str(files))
        run = self.tracking.open_run("run", "tiny", {}, {})
        return self.tracking.create_version(NAME, files.parent.as_uri(), run, tags(self.checkpoint, files))

    def files(self, number: str) -> Path:
        """Where the files of a version lie."""
        return self.folder / number / "artifacts"

    @property
    def champion(self) -> str | None:
        """The number of the champion."""
        found = self.tracking.aliased(NAME, CHAMPION)
        return found.number if found else None


def tags(checkpoint: Checkpoint, files: Path) -> dict[str, str]:
    """What a registration writes down of weights and scores."""
    card = load_scorecard(str(files))
    digests = {WEIGHTS_TAG: checkpoint.file_sha256("generator"), SCORES_TAG: scores_digest(card)}
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
    assert (verdict.promoted, verdict.champion, verdict.comparison) == (True, None, None)
    assert registry.champion == "1"


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


@pytest.mark.parametrize("field", ["manifest_sha256", "resize", "pairs_sha256"])
def test_scores_on_other_pairs_are_refused(registry: Registry, field: str) -> None:
    registry.add()
    registry.add(9.0, **{field: "other"})
    promote(NAME, "1", registry.tracking)
    with pytest.raises(Refused, match=rf"unlike passports are not compared: {field} is 'other' on one side"):
        promote(NAME, "2", registry.tracking)
    assert registry.champion == "1"


@pytest.mark.parametrize("who", ["1", "2"])
def test_damaged_weights_stop_a_promotion_whether_champion_or_challenger(registry: Registry, who: str) -> None:
    registry.add()
    registry.add(1.0)
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
