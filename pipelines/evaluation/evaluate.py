"""From weights to scores: every pair of a split is filled and measured once, chunk by chunk, in Ray tasks.

In: a model's name and a dataset. Out: a `Scorecard`: one row per pair, with the metrics of the model and of the
baselines, and the passport that defines the numbers. One task computes a whole chunk at one batch shape in one thread,
and chunks are merged in list order, so the digits do not depend on the number of workers.
"""

import platform
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import cv2
import numpy as np
import torch

from infra import storage
from infra.cluster import connect_ray, run_tasks
from nets.filling import NonFiniteFillError, ProcedureName
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.models import Model, Pictures, open_model
from pipelines.evaluation.pairs import (
    PHOTOS_PER_CHUNK,
    Pairs,
    count_chunks,
    find_mask_sources,
    read_chunk,
    read_pairs,
    refuse_missing_maps,
)
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import (
    BASELINES,
    SCORES_FILE,
    Scorecard,
    find_non_finite,
    hash_pairs,
    list_pairs,
    load_scorecard,
    name_pair,
    save_scorecard,
)
from pipelines.manifest import Dataset, open_dataset
from pipelines.masks.bins import BINS, find_bin, hole_ratio
from pipelines.records import JobError, UsageError, canonical_json, find_difference
from pipelines.stream.geometry import RESIZES

DEFAULT_PROTOCOL: Final = EvalProtocol()


def evaluate(
    model: str,
    data: str,
    split: str,
    resize: str,
    out: str,
    progress: Callable[[int, int], None],
    protocol: EvalProtocol = DEFAULT_PROTOCOL,
) -> Scorecard:
    """Scorecard of a model and the baselines on all pairs of a split, published under `out`; if done before, read it.

    Raises UsageError, before any pair is filled, for bad arguments or others than those of the scores at `out`;
    JobError naming the pair where a fill or a score is not finite.
    """
    # Check all arguments before the first pair.
    if resize not in RESIZES:
        raise UsageError(f"unknown resize {resize!r}: use one of {', '.join(RESIZES)}")
    dataset = open_dataset(data)
    chunks = count_chunks(dataset, split)
    opened = open_model(model, procedure=protocol.procedure)
    protocol = protocol.fit(opened)
    if protocol.segmentation:
        refuse_missing_maps(data, split)
    settings: dict[str, Any] = {"manifest_sha256": dataset.manifest_sha256, "split": split, "resize": resize}
    settings |= {"versions": _list_versions(), "asking": protocol.as_json()}
    settings |= {"resize": "none"} if protocol.size == "own" else {}
    identity = opened.identity
    model = identity["model"]  # a name that stays: tasks must not find another checkpoint or champion under it
    if storage.exists(storage.join(out, SCORES_FILE)):
        return _refuse_other_card(load_scorecard(out), identity, settings, out)
    # Score all chunks.
    tasks = [(model, identity, data, split, resize, protocol, c) for c in range(chunks)]
    rows = _score_all(tasks, progress)
    # Check the card and publish it.
    card = Scorecard(identity, settings | _describe_rows(dataset, protocol, rows), rows)
    if (problem := find_non_finite(card)) is not None:
        raise JobError(f"scores of {model} are not stored: {problem}")
    save_scorecard(card, out)
    return card


def _score_all(tasks: list[tuple[Any, ...]], progress: Callable[[int, int], None]) -> list[dict[str, Any]]:
    """Rows of all chunks in list order."""
    results: dict[int, list[dict[str, Any]]] = {}
    with connect_ray():
        for chunk, rows in run_tasks(_score_chunk, tasks):
            results[chunk] = rows
            progress(len(results), len(tasks))
    return [row for chunk in range(len(tasks)) for row in results[chunk]]


def _describe_rows(dataset: Dataset, protocol: EvalProtocol, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Fields of the passport that say what the rows' numbers mean."""
    facts = {
        "dataset": dataset.name,
        "pairs_sha256": hash_pairs(list_pairs(rows)),
        "num_pairs": len(rows),
        "quantisation": "uint8, rounded and clamped",
        "regions": "hole: mask pixels of the inpainted picture; image: all its pixels",
        "bins": list(BINS),
    }
    return facts | ({} if protocol.size is None else {"masks": find_mask_sources(row["recipe"] for row in rows)})


def _refuse_other_card(card: Scorecard, identity: dict[str, str], settings: dict[str, Any], out: str) -> Scorecard:
    """The card at `out`; raises UsageError naming the first field in which it is not the requested one."""
    there = {"model": card.model, **card.passport}
    settings = settings | {"asking": dict.fromkeys(there.get("asking", ())) | settings["asking"]}
    difference = find_difference(there, {"model": identity, **settings})
    if difference is not None:
        name, old, new = difference
        raise UsageError(f"{out} holds scores with {name} = {old!r}, not {new!r}: use another --out")
    missing = [name for name in _list_baselines(card.model["model"]) if name not in card.baselines]
    if missing:
        raise UsageError(f"{out} holds scores of an older version, without {' and '.join(missing)}: use another --out")
    return card


def _list_baselines(model: str) -> tuple[str, ...]:
    """Names of the baselines that are scored with the model: all but the model itself."""
    return tuple(name for name in BASELINES if name != model)


@lru_cache(maxsize=2)
def _open_same_model(name: str, identity: str, procedure: ProcedureName | None) -> Model:
    """Model of the identity, kept for the next chunk; raises JobError where the name means another by now."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    model = open_model(name, procedure=procedure)
    if canonical_json(model.identity).decode() != identity:
        raise JobError(f"{name} changed during its evaluation: evaluate it again")
    return model


def _score_chunk(
    model: str, identity: dict[str, str], data: str, split: str, resize: str, protocol: EvalProtocol, chunk: int
) -> tuple[int, list[dict[str, Any]]]:
    opened = _open_same_model(model, canonical_json(identity).decode(), protocol.procedure)
    rows = []
    for pairs in _parts(data, split, resize, protocol, chunk):
        best = _measure_best(opened, pairs, protocol)
        baselines = {name: open_model(name).fill(pairs.images, pairs.masks) for name in _list_baselines(model)}
        rows += [
            _make_row(pairs, i, metrics, {name: fill[i] for name, fill in baselines.items()})
            for i, metrics in enumerate(best)
        ]
    return chunk, rows


def _parts(data: str, split: str, resize: str, protocol: EvalProtocol, chunk: int) -> Iterator[Pairs]:
    """Yield the pairs of a chunk that are filled together: all at the size of the masks, each alone at another size."""
    if protocol.size is None:
        return iter((read_chunk(data, split, resize, chunk, bool(protocol.segmentation)),))
    return read_pairs(data, split, resize, protocol.size, chunk, bool(protocol.segmentation))


def _measure_best(model: Model, pairs: Pairs, protocol: EvalProtocol) -> list[dict[str, float]]:
    """Metrics of the best of the model's fills of each pair; one fill of each is held at a time."""
    best: list[dict[str, float]] = []
    for number in range(protocol.num_fills):
        fills = _fill_at_one_shape(model, pairs, protocol, number)
        measured = [measure(*pair) for pair in zip(pairs.images, pairs.masks, fills, strict=True)]
        tries = zip(best or measured, measured, strict=True)
        best = [max(pair, key=lambda metrics: metrics["psnr_hole"]) for pair in tries]
    return best


def _fill_at_one_shape(model: Model, pairs: Pairs, protocol: EvalProtocol, number: int) -> Pictures:
    """Fills of the pairs, made in a batch as large as a full chunk: the last one is padded with its first pair."""
    count = len(pairs.keys)
    full = PHOTOS_PER_CHUNK * (count // len(set(pairs.keys))) if protocol.size is None else count
    index = np.r_[np.arange(count), np.zeros(full - count, np.int64)]
    guides = {name: guide[index] for name, guide in protocol.make_guides(pairs).items()}
    noise = protocol.make_noise(pairs, number)
    keys = None if noise is None else noise[index]
    try:
        return model.fill(pairs.images[index], pairs.masks[index], guides, keys)[:count]
    except NonFiniteFillError as fault:
        pair = int(index[fault.number])
        named = name_pair((pairs.keys[pair], pairs.specs[pair]))
        raise JobError(f"{model.identity['model']} fills {named} with values that are not finite") from None


def _make_row(pairs: Pairs, i: int, metrics: dict[str, float], baselines: dict[str, Pictures]) -> dict[str, Any]:
    """Row of a pair: its fields, the metrics of the model's fill and of each baseline's."""
    image, mask = pairs.images[i], pairs.masks[i]
    place = {"key": pairs.keys[i], "recipe": pairs.specs[i], "bin": find_bin(mask), "ratio": hole_ratio(mask)}
    return place | metrics | {"baselines": {name: measure(image, mask, fill) for name, fill in baselines.items()}}


def _list_versions() -> dict[str, str]:
    packages = ("torch", "opencv-python-headless", "numpy", "scikit-image")
    return {"python": platform.python_version()} | {p: version(p).partition("+")[0] for p in packages}
