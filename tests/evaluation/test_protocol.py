"""How a model is asked: strokes and several fills change scores, stand in the passport, and suit not every model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.evaluation.comparison import compare
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.guides import make_noise_of_fill
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import read_chunk
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import ALL, Scorecard
from pipelines.manifest import Dataset
from pipelines.records import UsageError
from pipelines.training.run import TrainRun
from tests.making import PROBABILISTIC, SKETCHED, save_network

pytestmark = pytest.mark.thorough


def score_model(model: str, dataset: Dataset, out: Path, protocol: EvalProtocol) -> Scorecard:
    return evaluate(model, dataset.uri, str(out), lambda *_: None, protocol)


def test_strokes_change_the_fills_of_a_sketch_guided_network(
    dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    model = save_network(SKETCHED, tmp_path / "run").uri
    plain, guided = (score_model(model, dataset, tmp_path / str(s), EvalProtocol(strokes=s)) for s in (False, True))
    assert plain.passport["asking"] == EvalProtocol().as_json()
    assert guided.passport["asking"] == EvalProtocol(strokes=True).as_json()
    assert plain.mean("psnr_hole") != guided.mean("psnr_hole")
    assert plain.passport["pairs_sha256"] == guided.passport["pairs_sha256"]


def test_the_best_of_several_fills_is_the_best_of_each_pair(
    dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    model, protocol = save_network(PROBABILISTIC, tmp_path / "run").uri, EvalProtocol(num_fills=3)
    card = score_model(model, dataset, tmp_path / "best", protocol)
    opened, pairs = open_model(model), read_chunk(dataset.uri, "val", "centre-square", 0)
    fills = [opened.fill(pairs.images, pairs.masks, noise=make_noise_of_fill(pairs, number)) for number in range(3)]
    assert (fills[0] != fills[1]).any()
    rows = {(row["key"], row["recipe"]): row for row in card.rows}
    for n, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)):
        errors = [(pairs.images[n].astype(float) - fill[n])[pairs.masks[n] > 0] for fill in fills]
        best = min(float((error**2).mean()) for error in errors)
        assert rows[pair]["psnr_hole"] == pytest.approx(10 * torch.tensor(255**2 / best).log10().item(), abs=0.05)


def test_diversity_is_that_of_the_fills_and_is_not_compared(
    dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    model = save_network(PROBABILISTIC, tmp_path / "run").uri
    protocol = EvalProtocol(num_fills=3, metrics=(*EvalProtocol().metrics, "diversity_l1"))
    card = score_model(model, dataset, tmp_path / "scores", protocol)
    opened, pairs = open_model(model), read_chunk(dataset.uri, "val", "centre-square", 0)
    fills = [opened.fill(pairs.images, pairs.masks, noise=make_noise_of_fill(pairs, n)).astype(int) for n in range(3)]
    rows = {(row["key"], row["recipe"]): row for row in card.rows}
    for n, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)):
        twos = [np.abs(fills[a][n] - fills[b][n]).mean() / 2.55 for a, b in ((0, 1), (0, 2), (1, 2))]
        assert rows[pair]["diversity_l1"] == pytest.approx(np.mean(twos), rel=0.05)
    assert card.mean("diversity_l1") > 0
    assert card.baselines["telea"]["diversity_l1"][ALL].mean == 0
    with pytest.raises(UsageError, match="says how much fills differ"):
        compare(card, card, "diversity_l1")
    with pytest.raises(UsageError, match="diversity_l1 compares fills of a pair, there is one"):
        score_model(model, dataset, tmp_path / "one", replace(protocol, num_fills=1))


def test_noise_belongs_to_the_pair_and_not_to_its_place(dataset: Dataset) -> None:
    pairs = read_chunk(dataset.uri, "val", "centre-square", 0)
    turned = replace(pairs, keys=pairs.keys[::-1], specs=pairs.specs[::-1])
    one, other, first = (make_noise_of_fill(p, n) for p, n in ((pairs, 1), (turned, 1), (pairs, 0)))
    assert np.array_equal(one, other[::-1])
    assert not np.array_equal(one, first)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [(EvalProtocol(strokes=True), "takes no sketch"), (EvalProtocol(num_fills=5), "always gives the same fill")],
)
def test_what_a_model_cannot_take_is_refused(
    trained: TrainRun, dataset: Dataset, tmp_path: Path, protocol: EvalProtocol, words: str
) -> None:
    for model in (trained.out, "telea"):
        with pytest.raises(UsageError, match=words):
            score_model(model, dataset, tmp_path / "scores", protocol)
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize("number", [0, -1, 101])
def test_an_absurd_number_of_fills_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"num_fills is {number}: it must be from 1 to 100"):
        EvalProtocol(num_fills=number)


def test_scores_that_were_asked_otherwise_are_not_taken_for_these(
    dataset: Dataset, tmp_path: Path, ray_cluster: None
) -> None:
    model = save_network(SKETCHED, tmp_path / "run").uri
    score_model(model, dataset, tmp_path / "scores", EvalProtocol(strokes=True))
    with pytest.raises(UsageError, match=r"asking\.strokes = True, not False"):
        score_model(model, dataset, tmp_path / "scores", EvalProtocol())
