"""`lacuna compare`: gains over the first scorecard by metric and bin; what cannot be compared is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.evaluation.scorecard import save_scorecard
from tests.evaluation.test_scorecard import card_of, rows_of
from tests.jobs.test_cli import run


def store(folder: Path, name: str, gain: float, **passport: str) -> str:
    """URI of a scorecard whose PSNR in the hole is higher by so much on every pair."""
    card = card_of([row | {"psnr_hole": row["psnr_hole"] + gain} for row in rows_of()])
    save_scorecard(replace(card, passport=card.passport | passport), str(folder / name))
    return str(folder / name)


def test_gains_are_signed_so_that_more_is_better(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, better = store(tmp_path, "first", 0.0), store(tmp_path, "better", 1.0)
    code, report, tables = run(capfd, "compare", first, better, "--metrics", "psnr_hole")
    assert code == 0
    assert report["reference"]["scores"] == first
    assert report["gains"][better]["psnr_hole"]["overall"]["gain"] == pytest.approx(1.0)
    assert "psnr_hole: gains over" in tables
    code, report, _ = run(capfd, "compare", better, first)
    assert report["gains"][first]["psnr_hole"]["overall"]["gain"] == pytest.approx(-1.0)


def test_one_card_twice_the_same_and_unlike_ones_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, other = store(tmp_path, "first", 0.0), store(tmp_path, "other", 0.0, split="test")
    for words, error in (
        ((first,), "1 scorecards are given: give two or more"),
        ((first, first), "a scorecard is given twice"),
        ((first, other), "unlike passports are not compared: split is"),
        ((first, str(tmp_path / "none")), "no scores.json at"),
    ):
        code, report, _ = run(capfd, "compare", *words)
        assert code in (1, 2)
        assert error in report["error"]


def test_evaluate_refuses_options_of_the_other_way_and_inputs_as_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "r")
    results = ("--results", folder, "--photos", "p", "--masks", "m", "--system", "s")
    for words, error in (
        (("--model", "telea", "--data", "d", "--out", "o", "--hole", "white"), "--hole does not go with --model"),
        (("--model", "telea", "--data", "d", "--out", "o", "--missing", "skip"), "--missing does not go with --model"),
        ((*results, "--out", "o", "--size", "64"), "--size does not go with --results"),
        ((*results, "--out", folder), "--out is the folder of --results"),
        ((*results[:-2], "--out", "o"), "--system is missing"),
        ((*results, "--out", "o", "--metrics", "ssim"), "unknown metric 'ssim': the nearest are"),
        (("--out", "o"), "--model, --data is missing"),
    ):
        code, report, _ = run(capfd, "evaluate", *words)
        assert (code, error in report["error"]) == (2, True), report
    assert not list(tmp_path.iterdir())
