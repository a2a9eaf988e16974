"""Scores at the photos' own size: pairs keep their names, masks are drawn again, and unlike scores are not compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.data.build.eval_masks import hash_mask_files
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.evaluation import pairs as list_pairs
from pipelines.evaluation.comparison import compare, refuse_unlike
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.metrics import METRICS, measure
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import DRAWN, RESIZED, Pairs, count_chunks, read_chunk, read_pairs
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import Scorecard, load_scorecard
from pipelines.manifest import Dataset
from pipelines.masks.bins import find_bin
from pipelines.records import UsageError
from pipelines.stream.geometry import decode
from tests.making import PROBABILISTIC, SIZE_PX, SKETCHED, photo, save_network, shard_recipe

pytestmark = pytest.mark.thorough

SHAPES = [(40, 64), (50, 33), (97, 41), (32, 32), (70, 120), (45, 47)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of many shapes."""
    out = tmp_path_factory.mktemp("shapes")
    for number in range(12):
        photo(number, *SHAPES[number % len(SHAPES)]).save(out / f"{number:02d}.png")
    return out


@pytest.fixture(scope="module")
def shapes(folder: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Most of them held out, with drawn masks and one from a file."""
    files = tmp_path_factory.mktemp("files")
    drawing = np.zeros((64, 64), np.uint8)
    drawing[5:40, 20:31] = 255
    cv2.imwrite(str(files / "hole.png"), drawing)
    recipe = shard_recipe(holdout=0.6, masks=("rectangle", "brush", "irregular"), min_side_px=20)
    recipe = replace(recipe, mask_files_sha256=hash_mask_files(str(files)))
    plan = Plan(str(folder), str(tmp_path_factory.mktemp("data") / "data"), recipe, seed=0, mask_files=str(files))
    return build_dataset(plan, lambda *_: None)


def parts(dataset: Dataset, size: Any, resize: str = "centre-square") -> list[Pairs]:
    chunks = range(count_chunks(dataset, "val"))
    return [pair for chunk in chunks for pair in read_pairs(dataset.uri, "val", resize, size, chunk)]


def score_model(model: str, dataset: Dataset, out: Path, protocol: EvalProtocol) -> Scorecard:
    return evaluate(model, dataset.uri, str(out), lambda *_: None, protocol)


def test_pairs_at_their_own_size_are_the_same_pairs_of_whole_photos(shapes: Dataset, folder: Path) -> None:
    squares = [read_chunk(shapes.uri, "val", "centre-square", chunk) for chunk in range(count_chunks(shapes, "val"))]
    own = parts(shapes, "own")
    assert [(*p.keys, *p.specs) for p in own] == [
        pair for chunk in squares for pair in zip(chunk.keys, chunk.specs, strict=True)
    ]
    for pair in own:
        image = decode((folder / f"{pair.keys[0]}.png").read_bytes(), pair.keys[0])
        assert np.array_equal(pair.images[0], image)
        assert pair.masks.shape == (1, *image.shape[:2])
        assert 0 < pair.masks.mean() < 1
    assert len({pair.images.shape for pair in own}) > 3


def test_a_mask_of_a_file_is_resized_and_others_are_drawn_again(shapes: Dataset) -> None:
    for pair in parts(shapes, "own"):
        height, width = pair.masks.shape[1:]
        found = np.argwhere(pair.masks[0])
        (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0)
        if pair.specs[0].startswith("irregular"):
            assert (top / height, bottom / height) == pytest.approx((5 / 64, 40 / 64), abs=0.06)
            assert (left / width, right / width) == pytest.approx((20 / 64, 31 / 64), abs=0.06)
        if pair.specs[0].startswith("rectangle"):
            assert pair.masks.sum() == (bottom - top + 1) * (right - left + 1)


def test_at_the_size_of_the_masks_pairs_are_those_of_a_chunk(shapes: Dataset) -> None:
    squares = [read_chunk(shapes.uri, "val", "centre-square", chunk) for chunk in range(count_chunks(shapes, "val"))]
    asked = parts(shapes, SIZE_PX)
    for name in ("images", "masks"):
        whole = np.concatenate([getattr(chunk, name) for chunk in squares])
        assert np.array_equal(whole, np.concatenate([getattr(pair, name) for pair in asked]))


def test_a_photo_too_small_to_be_scored_is_named(shapes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_pairs, "MIN_SIDE_PX", 33)
    with pytest.raises(UsageError, match=r"\d+ is 32x32 px: scores need 33 px each way. Use another --size"):
        parts(shapes, "own")


def test_scores_at_own_size_say_so_and_are_not_compared_with_others(shapes: Dataset, tmp_path: Path) -> None:
    model = save_network(SKETCHED, tmp_path / "run").uri
    asked = {
        "squares": EvalProtocol(),
        "own": EvalProtocol(size="own"),
        "polyphase": EvalProtocol(size="own", procedure="polyphase"),
        "larger": EvalProtocol(size=48),
    }
    cards = {name: score_model(model, shapes, tmp_path / name, protocol) for name, protocol in asked.items()}
    assert cards["squares"].passport["asking"] == {"strokes": False, "num_fills": 1} | {
        "name": "lacuna",
        "quantization": "round",
    }
    assert "masks" not in cards["squares"].passport
    own = cards["own"].passport
    assert (own["asking"]["size"], own["resize"], own["masks"]) == ("own", "none", [DRAWN, RESIZED])
    assert cards["polyphase"].passport["asking"]["procedure"] == "polyphase"
    assert cards["larger"].passport["asking"]["size"] == 48
    for one, other, field in (
        ("own", "squares", r"asking\.size is 'own' on one side and None"),
        ("squares", "own", r"asking\.size is None on one side and 'own'"),
        ("own", "polyphase", r"asking\.procedure is None on one side and 'polyphase'"),
        ("larger", "own", r"asking\.size is 48"),
    ):
        with pytest.raises(UsageError, match=rf"unlike passports are not compared: {field}"):
            compare(cards[one], cards[other], "psnr_hole")
    telea = score_model("telea", shapes, tmp_path / "telea", EvalProtocol(size="own"))
    assert telea.passport == own
    assert compare(cards["own"], telea, "psnr_hole").overall.num_pairs == len(telea.rows)
    assert cards["own"].mean("psnr_hole") != cards["polyphase"].mean("psnr_hole")


def test_a_row_at_own_size_is_what_the_models_do_with_that_photo(shapes: Dataset, tmp_path: Path) -> None:
    card = score_model(save_network(SKETCHED, tmp_path / "run").uri, shapes, tmp_path / "own", EvalProtocol(size="own"))
    rows = {(row["key"], row["recipe"]): row for row in card.rows}
    model, telea = open_model(str(tmp_path / "run")), open_model("telea")
    for pair in parts(shapes, "own"):
        row = rows[pair.keys[0], pair.specs[0]]
        assert (row["bin"], row["ratio"]) == (find_bin(pair.masks[0]), pytest.approx(pair.masks.mean()))
        for scores, filler in ((row, model), (row["baselines"]["telea"], telea)):
            expected = measure(pair.images[0], pair.masks[0], filler.fill(pair.images, pair.masks)[0])
            assert {name: scores[name] for name in METRICS} == pytest.approx(expected, rel=1e-3)


def test_scores_at_another_size_at_the_same_place_are_refused(shapes: Dataset, tmp_path: Path) -> None:
    score_model("telea", shapes, tmp_path / "own", EvalProtocol(size="own"))
    with pytest.raises(UsageError, match=r"holds scores with (asking\.size = 'own', not None|resize = 'none')"):
        score_model("telea", shapes, tmp_path / "own", EvalProtocol())
    score_model("telea", shapes, tmp_path / "px", EvalProtocol(size=40))
    with pytest.raises(UsageError, match=r"holds scores with asking\.size = 40, not None"):
        score_model("telea", shapes, tmp_path / "px", EvalProtocol())
    assert score_model("telea", shapes, tmp_path / "px", EvalProtocol(size=40)) == load_scorecard(str(tmp_path / "px"))


@pytest.mark.parametrize(("config", "protocol"), [(SKETCHED, {"strokes": True}), (PROBABILISTIC, {"num_fills": 2})])
def test_strokes_and_several_fills_work_at_any_size(
    shapes: Dataset, tmp_path: Path, config: Any, protocol: dict[str, Any]
) -> None:
    model = save_network(config, tmp_path / "run").uri
    plain, asked = (
        score_model(model, shapes, tmp_path / str(n), EvalProtocol(size="own", **more))
        for n, more in enumerate(({}, protocol))
    )
    assert plain.mean("psnr_hole") != asked.mean("psnr_hole")


def test_a_procedure_that_is_given_makes_another_passport() -> None:
    plain = {"asking": EvalProtocol().as_json(), "resize": "squash"}
    refuse_unlike(plain, {"asking": EvalProtocol().as_json(), "resize": "squash"}, "psnr_hole")
    with pytest.raises(UsageError, match=r"asking\.procedure is None on one side and 'local'"):
        refuse_unlike(plain, {"asking": EvalProtocol(procedure="local").as_json(), "resize": "squash"}, "psnr_hole")


@pytest.mark.parametrize("size", [0, 10, -1, 8193])
def test_an_absurd_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"size is {size}: give own, or 11 to 8192 px"):
        EvalProtocol(size=size)


def test_a_classical_method_has_no_procedure(shapes: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="telea has no procedure, 'polyphase' was given: leave --procedure out"):
        score_model("telea", shapes, tmp_path / "out", EvalProtocol(procedure="polyphase"))
    assert not (tmp_path / "out").exists()
