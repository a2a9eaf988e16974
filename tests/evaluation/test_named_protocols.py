"""Protocols by name: what they change in fills and passports, and what is said where they do not fit a model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.procedures.network import ChallengeSteps
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import read_chunk
from pipelines.evaluation.protocol import PROTOCOLS, EvalProtocol, list_bins
from pipelines.evaluation.scorecard import ALL, Scorecard, load_scorecard
from pipelines.evaluation.scoring import choose_metrics
from pipelines.evaluation.tables import list_tables
from pipelines.manifest import Dataset
from pipelines.masks.bins import BINS
from pipelines.records import UsageError
from pipelines.training.run import TrainRun

pytestmark = pytest.mark.thorough


def score(model: str, dataset: Dataset, out: Path, protocol: EvalProtocol) -> Scorecard:
    return evaluate(model, dataset.uri, str(out), lambda *_: None, protocol)


@given(st.integers(0, len(BINS) - 1), st.integers(0, len(BINS) - 1))
def test_a_column_is_the_bins_from_its_first_to_its_last(one: int, other: int) -> None:
    first, last = sorted((one, other))
    column = f"{BINS[first].split('-')[0]}-{BINS[last].split('-')[1]}"
    assert list_bins(column) == BINS[first : last + 1]


@pytest.mark.parametrize("column", ["0.15-0.2", "0.3-0.3", "0.7-0.9"])
def test_a_column_that_cuts_a_bin_is_refused(column: str) -> None:
    with pytest.raises(UsageError, match=f"column '{column}' is no union of the bins"):
        list_bins(column)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_columns_of_every_protocol_are_bins(name: str) -> None:
    assert all(list_bins(column) for column in PROTOCOLS[name].columns)
    assert PROTOCOLS[name].name == name


def test_truncated_fills_are_at_most_one_level_below_rounded_ones(trained: TrainRun, dataset: Dataset) -> None:
    pairs = read_chunk(dataset.uri, "val", "centre-square", 0)
    rounded, truncated = (
        open_model(trained.out, ChallengeSteps(truncate=t)).fill(pairs.images, pairs.masks).astype(int)
        for t in (False, True)
    )
    lower = rounded - truncated
    assert set(np.unique(lower)) == {0, 1}
    assert 0.3 < lower[pairs.masks > 0].mean() < 0.7
    assert not lower[pairs.masks == 0].any()


def test_a_papers_protocol_stands_in_the_passport_and_its_columns_in_the_tables(
    trained: TrainRun, dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    protocol = replace(PROTOCOLS["spn"], size=32, with_weights=())
    card = score(trained.out, dataset, tmp_path / "spn", protocol)
    assert card.passport["resize"] == "squash"
    assert card.passport["asking"]["name"] == "spn"
    assert card.passport["quantisation"] == "uint8, truncated and clamped"
    assert {"ssim_uniform_image", "l1_gray_image"} < set(card.metrics)
    (columns,) = (table for table in list_tables(card) if table.title.startswith("Columns of the protocol spn"))
    counts = {row[0]: int(row[1].replace(",", "")) for row in columns.rows}
    assert counts[ALL] == len(card.rows)
    for name, count in counts.items():
        if name != ALL:
            assert count == sum(row["bin"] in list_bins(name) for row in card.rows)
    assert load_scorecard(str(tmp_path / "spn")) == card


def test_the_papers_procedure_is_for_networks(
    trained: TrainRun, dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    protocol = replace(PROTOCOLS["deepgin"], with_weights=())
    cards = {name: score(name, dataset, tmp_path / str(n), protocol) for n, name in enumerate(("telea", trained.out))}
    assert [card.passport["asking"].get("procedure") for card in cards.values()] == [None, "polyphase"]
    assert {row["height_px"] for row in cards["telea"].rows} != {32}


def test_another_protocol_than_the_recipes_is_noted(
    trained: TrainRun, dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    plain = score(trained.out, dataset, tmp_path / "plain", EvalProtocol())
    other = score(trained.out, dataset, tmp_path / "other", replace(PROTOCOLS["mhtma"], size=48, with_weights=()))
    assert plain.passport["notes"] == []
    assert plain.passport["resize"] == "centre-square"  # the upright form of the recipe's random squares
    notes = " ".join(other.passport["notes"])
    assert "photos are resized by squash; the recipe tiny learned from centre-square" in notes
    assert "another size than the network's 32 px: it fills them by its procedure local" in notes
    assert "the protocol is that of mhtma" in notes


def test_the_size_that_masks_are_drawn_at_is_part_of_the_pairs_digest(
    dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    cards = [score("telea", dataset, tmp_path / str(s), EvalProtocol(size=s)) for s in (None, 48, 64)]
    assert len({card.passport["pairs_sha256"] for card in cards}) == 3
    assert [{row["height_px"] for row in card.rows} for card in cards] == [{32}, {48}, {64}]


def test_scores_of_mask_families_add_up_to_all(dataset: Dataset, tmp_path: Path, ray_cluster: None) -> None:
    card = score("telea", dataset, tmp_path / "scores", EvalProtocol())
    assert set(card.families) == {row["recipe"].split(" ")[0] for row in card.rows}
    total = sum(scores["psnr_hole"][ALL].total for scores in card.families.values())
    assert total == pytest.approx(card.scores["psnr_hole"][ALL].total)


def test_metrics_without_weights_are_left_out_with_a_note_or_refused_by_name(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LACUNA_WEIGHTS", str(tmp_path / "none"))
    protocol, notes = choose_metrics(PROTOCOLS["distill"])
    assert protocol.metrics == PROTOCOLS["lacuna"].metrics
    assert [note.split(" ")[0] for note in notes] == ["fid_inception", "lpips_alex_image"]
    asked = EvalProtocol(metrics=(*EvalProtocol().metrics, "lpips_vgg_hole"))
    with pytest.raises(UsageError, match="lpips_vgg_hole needs the weights of lpips_vgg: no file at"):
        score("telea", dataset, tmp_path / "out", asked)
    with pytest.raises(UsageError, match=r"unknown metric 'lpips': the nearest are .*lpips_"):
        score("telea", dataset, tmp_path / "out", replace(asked, metrics=("psnr_hole", "lpips")))
    assert not (tmp_path / "out").exists()
