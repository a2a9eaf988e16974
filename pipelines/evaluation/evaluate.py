"""From weights to scores: every pair of a split is filled and measured once, chunk by chunk, in Ray tasks.

In: a model's name and a dataset. Out: a `Scorecard`: sums and counts per metric and bin, one row per pair, and the
passport that says what the numbers mean. A chunk is computed whole by one task at one batch shape and one thread, and
chunks are merged in list order, so the digits do not depend on the number of workers.
"""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import torch

from infra import storage
from infra.cluster import connected, run_tasks
from pipelines.evaluation.asking import Asking
from pipelines.evaluation.fillers import Model, Pictures, open_model
from pipelines.evaluation.metrics import METRICS, measure
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK, Pairs, list_digest, num_chunks, read_chunk
from pipelines.manifest import open_dataset, read_checked, read_parquet, seal, table_bytes, unseal
from pipelines.masks.bins import BINS, bin_of, hole_ratio
from pipelines.records import Failed, Refused, Score, canonical_json, first_difference, sha256_hex
from pipelines.stream.geometry import RESIZES

SCORES_FILE: Final = "scores.json"
PAIRS_FILE: Final = "pairs.parquet"
ALL: Final = "all"
PLAINLY: Final = Asking()


@dataclass(frozen=True)
class Scorecard:
    """What a model scored on the pairs of a split."""

    model: dict[str, str]
    passport: dict[str, Any]
    scores: dict[str, dict[str, Score]]
    """metric -> bin, and `all` -> score."""
    rows: list[dict[str, Any]]
    """One per pair, in list order: key, recipe, bin, ratio and every metric."""

    def mean(self, metric: str, bin_name: str = ALL) -> float:
        """The mean of a metric over the pairs of a bin."""
        return self.scores[metric][bin_name].mean

    def summary(self) -> dict[str, dict[str, float]]:
        """metric -> bin -> mean, bins without pairs left out."""
        return {m: {b: round(s.mean, 4) for b, s in bins.items() if s.count} for m, bins in self.scores.items()}


def evaluate(
    model: str,
    data: str,
    split: str,
    resize: str,
    out: str,
    progress: Callable[[int, int], None],
    asking: Asking = PLAINLY,
) -> Scorecard:
    """Scores a model on all pairs of a split and publishes that under `out`; done before, it is only read again.

    Raises Refused for bad arguments, or other ones than before at this place, before any pair is filled.
    """
    if resize not in RESIZES:
        raise Refused(f"unknown resize {resize!r}: known are {', '.join(RESIZES)}")
    dataset = open_dataset(data)
    chunks = num_chunks(dataset, split)
    asked = {"manifest_sha256": dataset.manifest_sha256, "split": split, "resize": resize, "versions": _versions()}
    asked["asking"] = asdict(asking)
    opened = open_model(model)
    asking.refuse_what_lacks(opened)
    identity = opened.identity
    model = identity["model"]  # a name that stays: tasks must not find another checkpoint or champion under it
    if storage.exists(storage.join(out, SCORES_FILE)):
        return _same_card(load_scorecard(out), identity, asked, out)
    asking.refuse_other_size(opened, read_chunk(data, split, resize, 0).images.shape[1])
    results: dict[int, list[dict[str, Any]]] = {}
    tasks = [(model, identity, data, split, resize, asking, c) for c in range(chunks)]
    with connected():
        for chunk, rows in run_tasks(_score_chunk, tasks):
            results[chunk] = rows
            progress(len(results), chunks)
    rows = [row for chunk in range(chunks) for row in results[chunk]]
    passport = asked | {
        "dataset": dataset.name,
        "pairs_sha256": list_digest((row["key"], row["recipe"]) for row in rows),
        "num_pairs": len(rows),
        "quantisation": "uint8, rounded and clamped",
        "regions": "hole: mask pixels of the inpainted picture; image: all its pixels",
        "bins": list(BINS),
    }
    card = Scorecard(identity, passport, _scores(rows), rows)
    save_scorecard(card, out)
    return card


def _same_card(card: Scorecard, identity: dict[str, str], asked: dict[str, Any], out: str) -> Scorecard:
    there = {"model": card.model, **card.passport}
    difference = first_difference(there, {"model": identity, **asked})
    if difference is not None:
        name, old, new = difference
        raise Refused(f"{out} holds scores with {name} = {old!r}, not {new!r}: name another --out")
    return card


def save_scorecard(card: Scorecard, out: str) -> None:
    """Publishes the pairs and then the scores under `out`."""
    pairs = table_bytes(pa.Table.from_pylist(card.rows))
    storage.publish(storage.join(out, PAIRS_FILE), pairs)
    sums = {m: {b: [s.total, s.count] for b, s in bins.items()} for m, bins in card.scores.items()}
    facts = {"model": card.model, "passport": card.passport, "sums": sums, "means": card.summary()}
    storage.publish(storage.join(out, SCORES_FILE), seal({**facts, "pairs_file_sha256": sha256_hex(pairs)}))


def load_scorecard(uri: str) -> Scorecard:
    """The scorecard under a URI; raises Refused where there is none, Damaged where a byte of it differs."""
    scores_uri = storage.join(uri, SCORES_FILE)
    if not storage.exists(scores_uri):
        raise Refused(f"no {SCORES_FILE} at {uri}: make it with `lacuna evaluate --out {uri}`")
    facts = unseal(storage.read_bytes(scores_uri), scores_uri)
    pairs = read_checked(storage.join(uri, PAIRS_FILE), facts["pairs_file_sha256"])
    rows = read_parquet(pairs).to_pylist()
    return Scorecard(facts["model"], facts["passport"], _scores(rows), rows)


@lru_cache(maxsize=2)
def _model(name: str, identity: str) -> Model:
    """The model of the identity, kept for the next chunk; raises Failed where the name has come to mean another."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    model = open_model(name)
    if canonical_json(model.identity).decode() != identity:
        raise Failed(f"{name} changed while it was evaluated: evaluate it again")
    return model


def _score_chunk(
    model: str, identity: dict[str, str], data: str, split: str, resize: str, asking: Asking, chunk: int
) -> tuple[int, list[dict[str, Any]]]:
    pairs, opened = read_chunk(data, split, resize, chunk), _model(model, canonical_json(identity).decode())
    fills = [_fill_at_one_shape(opened, pairs, asking, number) for number in range(asking.num_fills)]
    return chunk, [_row(pairs, i, [fill[i] for fill in fills]) for i in range(len(pairs.keys))]


def _fill_at_one_shape(model: Model, pairs: Pairs, asking: Asking, number: int) -> Pictures:
    """Fills the pairs in a batch as large as that of a full chunk: the last one is padded with its first pair."""
    full = PHOTOS_PER_CHUNK * (len(pairs.keys) // len(set(pairs.keys)))
    index = np.r_[np.arange(len(pairs.keys)), np.zeros(full - len(pairs.keys), np.int64)]
    beside = {name: given[index] for name, given in asking.beside(model, pairs, number).items()}
    return model.fill(pairs.images[index], pairs.masks[index], beside)[: len(pairs.keys)]


def _row(pairs: Pairs, i: int, fills: list[Pictures]) -> dict[str, Any]:
    mask = pairs.masks[i]
    place = {"key": pairs.keys[i], "recipe": pairs.recipes[i], "bin": bin_of(mask), "ratio": hole_ratio(mask)}
    measured = [measure(pairs.images[i], mask, fill) for fill in fills]
    return place | max(measured, key=lambda metrics: metrics["psnr_hole"])


def _scores(rows: list[dict[str, Any]]) -> dict[str, dict[str, Score]]:
    scores = {metric: dict.fromkeys((ALL, *BINS), Score(0.0, 0)) for metric in METRICS}
    for row in rows:
        for metric, bins in scores.items():
            for name in (ALL, row["bin"]):
                bins[name] += Score(row[metric], 1)
    return scores


def _versions() -> dict[str, str]:
    packages = ("torch", "opencv-python-headless", "numpy", "scikit-image")
    return {"python": platform.python_version()} | {p: version(p).partition("+")[0] for p in packages}
