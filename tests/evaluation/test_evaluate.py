"""Law 7: scores are sums and counts over fixed chunks, the same digits for any number of workers, done once."""

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines.checked_files import seal, unseal
from pipelines.checkpoints import open_checkpoint, save_checkpoint
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.evaluation.comparison import compare
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.metrics import METRICS, measure
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import count_chunks, read_chunk, read_pairs
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.report import render_fills
from pipelines.evaluation.scorecard import ALL, BASELINES, Scorecard, load_scorecard, save_scorecard
from pipelines.evaluation.tables import list_tables
from pipelines.manifest import Dataset
from pipelines.masks.bins import BINS, find_bin
from pipelines.pictures import whiten_hole
from pipelines.records import JobError, Score, UsageError
from pipelines.training.run import TrainRun
from tests.making import SIZE_PX, shard_recipe

pytestmark = pytest.mark.thorough


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def heldout(photos: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """The photos with most of them held out: three chunks, the last one not full."""
    out = tmp_path_factory.mktemp("heldout") / "data"
    return build_dataset(Plan(str(photos), str(out), shard_recipe(holdout=0.7), seed=0), silent)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scores") / "network")


@pytest.fixture(scope="module")
def card(trained: TrainRun, heldout: Dataset, out: str) -> Scorecard:
    """The trained network's scores."""
    return evaluate(trained.out, heldout.uri, out, silent)


@contextmanager
def one_worker() -> Iterator[None]:
    """Occupies all cores of the cluster but one."""
    import ray  # not at the head of the file: `connect_ray` must come before Ray is imported

    class Holder:
        """Does nothing with its cores."""

        def ready(self) -> bool:
            return True

    cores = int(ray.cluster_resources()["CPU"]) - 1
    remote: Any = ray.remote(Holder)
    holder = remote.options(num_cpus=cores).remote()
    assert ray.get(holder.ready.remote())
    try:
        yield
    finally:
        ray.kill(holder)


def test_one_worker_and_many_find_the_same_digits(
    trained: TrainRun, heldout: Dataset, card: Scorecard, tmp_path: Path
) -> None:
    with one_worker():
        alone = evaluate(trained.out, heldout.uri, str(tmp_path), silent)
    assert count_chunks(heldout, "val") == 3
    assert alone.rows == card.rows
    assert alone == card


def test_every_photo_is_scored_with_each_family_once(heldout: Dataset, card: Scorecard) -> None:
    pairs = [(row["key"], row["recipe"].split()[0]) for row in card.rows]
    photos = {key for key, _ in pairs}
    assert len(photos) == sum(shard.num_samples for shard in heldout.split("val")) > 32
    assert sorted(pairs) == sorted((key, family) for key in photos for family in ("rectangle", "brush", "automaton"))
    assert card.passport["num_pairs"] == len(pairs)


def test_a_row_is_what_the_model_does_with_that_pair(trained: TrainRun, heldout: Dataset, card: Scorecard) -> None:
    pairs = read_chunk(heldout.uri, "val", "centre-square", 2)
    fills = open_model(trained.out).fill(pairs.images, pairs.masks)
    rows = {(row["key"], row["recipe"]): row for row in card.rows}
    for n, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)):
        expected = measure(pairs.images[n], pairs.masks[n], fills[n])
        assert rows[pair]["bin"] == find_bin(pairs.masks[n])
        assert rows[pair]["ratio"] == pytest.approx(pairs.masks[n].mean())
        assert {name: rows[pair][name] for name in METRICS} == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", BASELINES)
def test_the_classical_methods_are_scored_on_the_very_same_pairs(
    heldout: Dataset, card: Scorecard, tmp_path: Path, name: str
) -> None:
    alone = evaluate(name, heldout.uri, str(tmp_path / name), silent)
    assert set(alone.baselines) == {*BASELINES} - {name}
    assert [row["baselines"][name] for row in card.rows] == [{m: row[m] for m in METRICS} for row in alone.rows]
    assert card.baselines[name] == alone.scores
    assert alone.passport == card.passport


@pytest.mark.parametrize("size_px", [SIZE_PX, 2 * SIZE_PX])
def test_a_model_that_fills_with_no_numbers_is_refused_and_the_pair_named(
    trained: TrainRun, heldout: Dataset, tmp_path: Path, size_px: int
) -> None:
    checkpoint = open_checkpoint(trained.out)
    generator = {name: tensor * math.nan for name, tensor in checkpoint.tensors("generator").items()}
    facts = {"images_seen": 4, "network": checkpoint.state["network"], "size_px": size_px}
    save_checkpoint(str(tmp_path / "run"), {"generator": generator}, facts)
    with pytest.raises(JobError, match=r" fills \S+ with mask '\S+ .*' with values that are not finite"):
        evaluate(str(tmp_path / "run"), heldout.uri, str(tmp_path / "scores"), silent)
    assert not (tmp_path / "scores").exists()


def test_scores_of_an_older_format_are_refused_with_words(
    trained: TrainRun, heldout: Dataset, card: Scorecard, tmp_path: Path
) -> None:
    save_scorecard(card, str(tmp_path))
    facts = unseal((tmp_path / "scores.json").read_bytes(), "scores")
    del facts["format"]
    (tmp_path / "scores.json").write_bytes(seal(facts))
    words = r"scores\.json has format 1, this version of Lacuna reads 2: evaluate again with another --out"
    with pytest.raises(UsageError, match=words):
        load_scorecard(str(tmp_path))
    with pytest.raises(UsageError, match=words):
        evaluate(trained.out, heldout.uri, str(tmp_path), silent)


def test_scores_are_sums_and_counts_of_the_rows(card: Scorecard) -> None:
    for metric in METRICS:
        values = [row[metric] for row in card.rows]
        assert card.scores[metric][ALL].total == pytest.approx(math.fsum(values))
        assert card.scores[metric][ALL].count == len(values)
        assert card.mean(metric) == pytest.approx(np.mean(values))
        counts = {name: card.scores[metric][name].count for name in BINS}
        assert counts == {name: sum(row["bin"] == name for row in card.rows) for name in BINS}
        assert sum(counts.values()) == card.scores[metric][ALL].count


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50), st.integers(0, 50))
def test_scores_merge_in_any_cut(values: list[int], cut: int) -> None:
    whole = sum((Score(float(v), 1) for v in values), Score(0.0, 0))
    first, second = (sum((Score(float(v), 1) for v in part), Score(0.0, 0)) for part in (values[:cut], values[cut:]))
    assert first + second == whole
    assert whole.mean == pytest.approx(np.mean(values))


def test_a_bin_without_pairs_has_no_mean_and_is_not_in_the_summary(card: Scorecard) -> None:
    assert math.isnan(Score(0.0, 0).mean)
    for means in card.summary().values():
        assert {name for name in means if name != ALL} == {row["bin"] for row in card.rows}
        assert not any(math.isnan(mean) for mean in means.values())


def test_a_scorecard_comes_back_from_its_files(card: Scorecard, out: str, tmp_path: Path) -> None:
    assert load_scorecard(out) == card
    save_scorecard(card, str(tmp_path))
    assert load_scorecard(str(tmp_path)) == card
    for name in ("scores.json", "pairs.parquet"):
        assert (tmp_path / name).read_bytes() == (Path(out) / name).read_bytes()


def test_the_stored_sums_are_those_of_the_card(card: Scorecard, out: str) -> None:
    facts = json.loads((Path(out) / "scores.json").read_bytes())
    assert facts["sums"]["psnr_hole"][ALL] == [card.scores["psnr_hole"][ALL].total, len(card.rows)]
    assert facts["means"] == card.summary()


def test_the_passport_says_what_the_numbers_mean(heldout: Dataset, card: Scorecard) -> None:
    expected = {
        "dataset": "folder",
        "manifest_sha256": heldout.manifest_sha256,
        "split": "val",
        "resize": "centre-square",
        "bins": list(BINS),
        "num_pairs": len(card.rows),
    }
    assert {name: card.passport[name] for name in expected} == expected
    assert {"pairs_sha256", "quantisation", "regions", "versions"} <= card.passport.keys()
    assert {"python", "torch", "numpy", "scikit-image"} <= card.passport["versions"].keys()


def test_the_card_names_the_weights(trained: TrainRun, card: Scorecard) -> None:
    assert card.model == open_model(trained.out).identity


def test_done_before_it_is_only_read_again(
    trained: TrainRun, heldout: Dataset, card: Scorecard, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in Path(out).iterdir()}
    progress: list[int] = []
    again = evaluate(trained.out, heldout.uri, out, lambda done, _: progress.append(done))
    assert again == card
    assert progress == []
    assert {path.name: path.stat().st_mtime_ns for path in Path(out).iterdir()} == before


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("model", "resize", "field"),
    [("telea", "centre-square", "model.model"), (None, "squash", "resize")],
)
def test_other_arguments_at_the_same_place_are_refused(
    trained: TrainRun, heldout: Dataset, out: str, model: str | None, resize: str, field: str
) -> None:
    with pytest.raises(UsageError, match=rf"holds scores with {field} = .*, not .*: use another --out"):
        evaluate(model or trained.out, heldout.uri, out, silent, EvalProtocol(resize=resize))


@pytest.mark.usefixtures("card")
def test_another_dataset_at_the_same_place_is_refused(trained: TrainRun, dataset: Dataset, out: str) -> None:
    with pytest.raises(UsageError, match=r"holds scores with manifest_sha256 = "):
        evaluate(trained.out, dataset.uri, out, silent)


@pytest.mark.parametrize(
    ("split", "resize", "words"),
    [
        ("val", "centre", "unknown resize 'centre': use one of .*centre-square"),
        ("test", "centre-square", "no photos in split 'test' of .*: it has train, val"),
        ("train", "centre-square", "have no masks"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(
    heldout: Dataset, tmp_path: Path, split: str, resize: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate("telea", heldout.uri, str(tmp_path / "out"), silent, EvalProtocol(split=split, resize=resize))
    assert not (tmp_path / "out").exists()


def test_scores_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no scores\.json at .*: run `lacuna evaluate"):
        load_scorecard(str(tmp_path))
    with pytest.raises(UsageError, match="no dataset at"):
        evaluate("telea", str(tmp_path), str(tmp_path / "out"), silent)


def test_models_on_the_same_pairs_are_comparable_and_on_others_are_not(
    heldout: Dataset, dataset: Dataset, card: Scorecard, tmp_path: Path
) -> None:
    telea = evaluate("telea", heldout.uri, str(tmp_path / "telea"), silent)
    result = compare(card, telea, "psnr_hole")
    assert result.overall.gain == pytest.approx(card.mean("psnr_hole") - telea.mean("psnr_hole"))
    assert result.overall.num_pairs == len(card.rows)
    other = evaluate("telea", dataset.uri, str(tmp_path / "other"), silent)
    with pytest.raises(UsageError, match="unlike passports are not compared: manifest_sha256"):
        compare(card, other, "psnr_hole")


def test_the_list_of_pairs_is_in_the_passport(card: Scorecard, heldout: Dataset, tmp_path: Path) -> None:
    twice = replace(card, passport={**card.passport, "pairs_sha256": "0" * 64})
    with pytest.raises(UsageError, match="pairs_sha256"):
        compare(card, twice, "psnr_hole")


def test_the_table_ends_with_the_classical_methods(card: Scorecard) -> None:
    rows = {row[0]: row for row in list_tables(card)[0].rows[-len(BASELINES) :]}
    for name in BASELINES:
        assert rows[name][1:3] == [str(len(card.rows)), f"{card.baselines[name]['psnr_hole'][ALL].mean:.2f}"]


def test_the_table_has_a_row_per_bin_with_pairs(card: Scorecard) -> None:
    table = list_tables(card)[0]
    everything, *bins = table.rows[: -len(BASELINES) - 2]
    assert list(table.head)[-6:] == list(METRICS)
    assert everything[:2] == ["all", str(len(card.rows))]
    assert {row[0] for row in bins} == {row["bin"] for row in card.rows}
    assert [row[0] for row in table.rows[-len(BASELINES) - 2 : -len(BASELINES)]] == ["mean of bins", "pooled"]


def test_the_report_shows_photo_hole_and_the_models(heldout: Dataset, trained: TrainRun) -> None:
    png = render_fills(heldout.uri, {"Telea": "telea", "ours": trained.out})
    with Image.open(io.BytesIO(png)) as sheet:
        squares, whole = 18 + 4 + 9 * (32 * 4 + 4), 18 + 4 + 48 + 4
        assert sheet.size == (4 + 4 * (32 * 4 + 4), squares + 2 * whole)
        tiles = {
            (r, c): sheet.crop((c, r, c + 40, r + 48)) for r in (squares + 18, squares + whole + 18) for c in (4, 48)
        }
    hole, telea, ours, nothing = map(np.asarray, tiles.values())
    chunk = read_chunk(heldout.uri, "val", "centre-square", 0)
    second = (chunk.keys[4],), (chunk.specs[4],)
    own = read_pairs(heldout.uri, "val", "centre-square", "own", 0)
    pair = next(pair for pair in own if (pair.keys, pair.specs) == second)
    assert np.array_equal(hole, whiten_hole(pair.images, pair.masks)[0])
    for tile, model in ((telea, "telea"), (ours, trained.out)):
        assert np.array_equal(tile, open_model(model).fill(pair.images, pair.masks)[0])
    assert (nothing == 255).all()
