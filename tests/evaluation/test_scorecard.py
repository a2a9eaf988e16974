"""A scorecard's files: what comes back from them, and what is refused although every seal holds."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.checked_files import seal, table_bytes
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.scorecard import (
    ALL,
    BASELINES,
    Scorecard,
    find_non_finite,
    hash_pairs,
    list_pairs,
    load_scorecard,
    save_scorecard,
)
from pipelines.masks.bins import BINS
from pipelines.records import CorruptDataError, UsageError, sha256_hex

Rows = list[dict[str, Any]]
Facts = dict[str, Any]


def rows_of(num_photos: int = 6, baselines: tuple[str, ...] = BASELINES) -> Rows:
    """Two pairs a photo, no two scores alike."""
    return [
        {"key": f"photo{n // 2}", "recipe": f"mask {n % 2}", "bin": BINS[2 + n % 2], "ratio": 0.25}
        | {metric: 20 + n / 7 + m for m, metric in enumerate(METRICS)}
        | {"baselines": {name: dict.fromkeys(METRICS, 10 + n / 7 + b) for b, name in enumerate(baselines)}}
        for n in range(2 * num_photos)
    ]


def card_of(rows: Rows) -> Scorecard:
    return Scorecard({"model": "m"}, {"num_pairs": len(rows), "pairs_sha256": hash_pairs(list_pairs(rows))}, rows)


def write(folder: Path, rows: Rows, change: Callable[[Facts], object] = lambda _: None) -> str:
    """The files of the unchanged rows' scorecard, then these rows and facts in them, and every seal made again."""
    save_scorecard(card_of(rows_of()), str(folder))
    pairs = table_bytes(pa.Table.from_pylist(rows))
    facts = json.loads((folder / "scores.json").read_bytes())
    del facts["sha256"]
    facts["pairs_file_sha256"] = sha256_hex(pairs)
    change(facts)
    (folder / "pairs.parquet").write_bytes(pairs)
    (folder / "scores.json").write_bytes(seal(facts))
    return str(folder)


def test_a_scorecard_comes_back_with_its_baselines(tmp_path: Path) -> None:
    card = card_of(rows_of())
    save_scorecard(card, str(tmp_path))
    again = load_scorecard(str(tmp_path))
    assert again == card
    assert again.baselines == card.baselines
    assert list(again.baselines) == sorted(BASELINES)
    means = [row["baselines"]["telea"]["psnr_hole"] for row in card.rows]
    assert again.baselines["telea"]["psnr_hole"][ALL].mean == pytest.approx(math.fsum(means) / len(means))
    stored = json.loads((tmp_path / "scores.json").read_bytes())
    assert stored["baselines"]["telea"]["means"] == again.baseline_summaries()["telea"]


@given(st.randoms())
def test_rows_in_another_order_are_the_same_scores(rng: random.Random) -> None:
    rows = rows_of()
    turned = rng.sample(rows, len(rows))
    assert hash_pairs(list_pairs(turned)) == hash_pairs(list_pairs(rows))
    for name in ("psnr_hole", "l1_image"):
        assert card_of(turned).mean(name) == pytest.approx(card_of(rows).mean(name), rel=1e-12)


def test_shuffled_rows_are_read(tmp_path: Path) -> None:
    rows = rows_of()
    assert load_scorecard(write(tmp_path, rows[::-1])).mean("psnr_hole") == pytest.approx(
        card_of(rows).mean("psnr_hole")
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("metric", ["psnr_hole", "l1_image"])
@pytest.mark.parametrize("who", ["", "telea"])
def test_a_score_that_is_not_finite_is_neither_written_nor_read(
    tmp_path: Path, value: float | None, metric: str, who: str
) -> None:
    rows = rows_of()
    (rows[5]["baselines"][who] if who else rows[5])[metric] = value
    words = rf"{metric}{' of telea' if who else ''} is {value} for photo2 with mask 'mask 1'"
    with pytest.raises(UsageError, match=words):
        load_scorecard(write(tmp_path / "read", rows))
    with pytest.raises(UsageError, match=words):
        save_scorecard(card_of(rows), str(tmp_path / "written"))
    assert not (tmp_path / "written").exists()


def test_finite_scores_whose_sum_is_not_are_found() -> None:
    rows = [row | {"l1_hole": 1e308} for row in rows_of()]
    assert find_non_finite(card_of(rows)) == "the sum of l1_hole is inf"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[::2], "6 rows, the passport counts 12 pairs"),
        (lambda rows: [], "0 rows, the passport counts 12 pairs"),
        (lambda rows: rows + rows[:3], "3 of 12 pairs have several rows, photo0 with mask 'mask 0' has 2"),
        (
            lambda rows: [r | {"key": r["key"] + "x"} for r in rows],
            "12 rows are not the pairs .* first is photo0x with",
        ),
        (
            lambda rows: [r | {"psnr_hole": r["psnr_hole"] + 1} for r in rows],
            "psnr_hole in bin all adds up to .* 12 rows",
        ),
        (lambda rows: [r | {"bin": BINS[2]} for r in rows], r"psnr_hole in bin \S+ adds up to .* says .* over 6"),
        (
            lambda rows: [r | {"baselines": {n: dict.fromkeys(METRICS, 0.0) for n in r["baselines"]}} for r in rows],
            "psnr_hole of navier-stokes in bin all adds up to 0 over 12 rows",
        ),
        (lambda _: rows_of(baselines=("telea",)), "sums of the baselines navier-stokes, telea, rows of telea"),
    ],
    ids=["half", "none", "doubled", "other keys", "better", "other bins", "worse baselines", "one baseline"],
)
def test_rows_that_are_not_those_of_sums_and_passport_are_refused(
    tmp_path: Path, change: Callable[[Rows], Rows], words: str
) -> None:
    rows = change(rows_of()) or rows_of()[:0]
    with pytest.raises(CorruptDataError, match=words):
        load_scorecard(write(tmp_path, rows))


@pytest.mark.parametrize("value", [math.nan, 0.0, 1e9])
def test_sums_that_are_not_those_of_the_rows_are_refused(tmp_path: Path, value: float) -> None:
    def change(facts: Facts) -> None:
        facts["sums"]["psnr_hole"][ALL][0] = value

    with pytest.raises(CorruptDataError, match=r"psnr_hole in bin all adds up to 249.* over 12 rows, scores.json says"):
        load_scorecard(write(tmp_path, rows_of(), change))


def test_an_unknown_bin_is_refused(tmp_path: Path) -> None:
    rows = rows_of()
    rows[3]["bin"] = "0.1-0.9"
    with pytest.raises(UsageError, match=r"photo1 with mask 'mask 1' has the unknown bin '0.1-0.9'"):
        load_scorecard(write(tmp_path, rows))
