"""From weights to scores: every pair of a split is filled and measured once, chunk by chunk, in Ray tasks.

In: a model's name and a dataset. Out: a `Scorecard`: one row per pair, with the metrics of the model and of the
baselines, and the passport that defines the numbers. One task computes a whole chunk at one batch shape in one thread,
and chunks are merged in list order, so the digits do not depend on the number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import torch

from infra.cluster import connect_ray, run_tasks
from nets.filling import NonFiniteFillError
from nets.procedures.network import ChallengeSteps
from pipelines.evaluation.card import Progress, find_card, list_baselines, make_card, publish_card
from pipelines.evaluation.guides import make_guides, make_noise_of_fill
from pipelines.evaluation.metrics import measure_pairs
from pipelines.evaluation.models import Model, Pictures, is_fixed, open_model
from pipelines.evaluation.pairs import (
    PHOTOS_PER_CHUNK,
    Pairs,
    count_chunks,
    find_mask_sources,
    read_chunk,
    read_pairs,
    refuse_missing_maps,
)
from pipelines.evaluation.protocol import PROTOCOLS, EvalProtocol
from pipelines.evaluation.scorecard import Scorecard, name_pair
from pipelines.evaluation.scores_page import Shown
from pipelines.evaluation.scoring import BEST_BY, ChunkScores, choose_metrics, describe_sets, score_pairs
from pipelines.manifest import open_dataset
from pipelines.pictures import whiten_hole
from pipelines.records import JobError, UsageError, canonical_json

DEFAULT_PROTOCOL: Final = EvalProtocol()


@dataclass(frozen=True)
class Subject:
    """Model and pairs of an evaluation, as its tasks are given them."""

    identity: dict[str, str]
    """Identity of the model; its name is one that stays, so tasks find no other champion under it."""
    data: str
    protocol: EvalProtocol


def evaluate(
    model: str, data: str, out: str, progress: Progress, protocol: EvalProtocol = DEFAULT_PROTOCOL
) -> Scorecard:
    """Scorecard of a model and the baselines on all pairs of a split, published under `out`; if done before, read it.

    Raises UsageError, before any pair is filled, for bad arguments or others than those of the scores at `out`;
    JobError naming the pair where a fill or a score is not finite.
    """
    # Check all arguments before the first pair.
    dataset = open_dataset(data)
    chunks = count_chunks(dataset, protocol.split)
    opened, protocol = _fit_protocol(model, dataset.name, protocol)
    if protocol.segmentation:
        refuse_missing_maps(data, protocol.split)
    protocol, metric_notes = choose_metrics(protocol)
    subject = Subject(opened.identity, data, protocol)
    first = next(_parts(subject, 0))
    notes = protocol.describe_differences(opened, first.images.shape[1:3] == (opened.trained.get("size_px"),) * 2)
    settings: dict[str, Any] = {"manifest_sha256": dataset.manifest_sha256, "split": protocol.split}
    settings |= {"resize": "none" if protocol.size == "own" else protocol.resize}
    if (card := find_card(opened.identity, settings, protocol, out)) is not None:
        return card
    # Score all chunks.
    scores = _score_all([(subject, chunk) for chunk in range(chunks)], progress)
    # Check the card and publish it.
    facts: dict[str, Any] = {"dataset": dataset.name, "notes": [*notes, *metric_notes, *describe_sets(scores)]}
    if protocol.size is not None:
        facts["masks"] = find_mask_sources(row["recipe"] for row in scores.rows)
    card = make_card(opened.identity, settings | facts, protocol, scores)
    publish_card(card, out, lambda wanted: _draw(subject, scores.rows, wanted))
    return card


def _fit_protocol(name: str, dataset_name: str, protocol: EvalProtocol) -> tuple[Model, EvalProtocol]:
    """Model of the name, and the protocol as it suits model and dataset."""
    if protocol.quantization == "truncate" and name.startswith("models:/"):
        raise UsageError(
            f"{name} rounds its fills, the protocol {protocol.name} truncates them: evaluate its checkpoint, or add "
            "--quantization round"
        )
    if is_fixed(name) and protocol.procedure == PROTOCOLS[protocol.name].procedure:
        protocol = replace(protocol, procedure=None)  # the paper's procedure is for networks
    model = _open(name, protocol)
    fitted = protocol.fit(model, dataset_name)
    return (model if fitted.procedure == protocol.procedure else _open(name, fitted)), fitted


def _open(name: str, protocol: EvalProtocol) -> Model:
    """Model that fills and rounds as the protocol says; classical methods make whole levels themselves."""
    truncates = protocol.quantization == "truncate" and not is_fixed(name)
    return open_model(name, ChallengeSteps(truncate=truncates), protocol.procedure)


@lru_cache(maxsize=2)
def _open_same_model(identity: str, name: str, protocol: EvalProtocol) -> Model:
    """Model of the identity, kept for the next chunk; raises JobError where the name means another by now."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    model = _open(name, protocol)
    if canonical_json(model.identity).decode() != identity:
        raise JobError(f"{name} changed during its evaluation: evaluate it again")
    return model


def _score_all(tasks: list[tuple[Subject, int]], progress: Progress) -> ChunkScores:
    """Scores of all chunks in list order."""
    results: dict[int, ChunkScores] = {}
    with connect_ray():
        for chunk, scores in run_tasks(_score_chunk, tasks):
            results[chunk] = scores
            progress(len(results), len(tasks))
    return ChunkScores.merge(results[chunk] for chunk in range(len(tasks)))


def _score_chunk(subject: Subject, chunk: int) -> tuple[int, ChunkScores]:
    name = subject.identity["model"]
    model = _open_same_model(canonical_json(subject.identity).decode(), name, subject.protocol)
    parts = []
    for pairs in _parts(subject, chunk):
        baselines = {
            name: open_model(name).fill(pairs.images, pairs.masks) for name in list_baselines(subject.identity["model"])
        }
        best, several = _choose_fills(model, pairs, subject.protocol)
        parts.append(score_pairs(pairs, best, subject.protocol, baselines, several))
    return chunk, ChunkScores.merge(parts)


def _draw(subject: Subject, rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[Shown]:
    """Pictures of the wanted rows, filled once more by their chunks."""
    photos = {key: number for number, key in enumerate(dict.fromkeys(row["key"] for row in rows))}
    chunks = sorted({photos[row["key"]] // PHOTOS_PER_CHUNK for row in wanted})
    pairs = {(row["key"], row["recipe"]) for row in wanted}
    drawn: dict[tuple[str, str], Shown] = {}
    with connect_ray():
        for found in run_tasks(_draw_chunk, [(subject, chunk, pairs) for chunk in chunks]):
            drawn |= found
    return [drawn[row["key"], row["recipe"]] for row in wanted]


def _draw_chunk(subject: Subject, chunk: int, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Shown]:
    model = _open_same_model(canonical_json(subject.identity).decode(), subject.identity["model"], subject.protocol)
    drawn: dict[tuple[str, str], Shown] = {}
    for pairs in _parts(subject, chunk):
        places = [i for i, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)) if pair in wanted]
        fills = _choose_fills(model, pairs, subject.protocol)[0] if places else pairs.images
        holes = whiten_hole(pairs.images, pairs.masks)
        drawn |= {(pairs.keys[i], pairs.specs[i]): Shown(pairs.images[i], holes[i], fills[i]) for i in places}
    return drawn


def _parts(subject: Subject, chunk: int) -> Iterator[Pairs]:
    """Yield the pairs of a chunk that are filled together: all at the size of the masks, each alone at another size."""
    protocol, with_maps = subject.protocol, bool(subject.protocol.segmentation)
    assert protocol.resize is not None
    if protocol.size is None:
        return iter((read_chunk(subject.data, protocol.split, protocol.resize, chunk, with_maps),))
    return read_pairs(subject.data, protocol.split, protocol.resize, protocol.size, chunk, with_maps)


def _choose_fills(model: Model, pairs: Pairs, protocol: EvalProtocol) -> tuple[Pictures, list[Pictures]]:
    """Fill of each pair, of several the one of the highest PSNR in the hole; and all fills, a batch for each number."""
    several = [fill_at_one_shape(model, pairs, protocol, number) for number in range(protocol.num_fills)]
    if len(several) == 1:
        return several[0], several
    scores = [measure_pairs(pairs.images, pairs.masks, fills, (BEST_BY,))[BEST_BY] for fills in several]
    best = np.argmax(scores, axis=0)  # the first of equal ones
    return np.stack([several[number][pair] for pair, number in enumerate(best)]), several


def fill_at_one_shape(model: Model, pairs: Pairs, protocol: EvalProtocol, number: int) -> Pictures:
    """Fills of the pairs, made in a batch as large as a full chunk: the last one is padded with its first pair."""
    count = len(pairs.keys)
    full = PHOTOS_PER_CHUNK * (count // len(set(pairs.keys))) if protocol.size is None else count
    index = np.r_[np.arange(count), np.zeros(full - count, np.int64)]
    guides = {name: guide[index] for name, guide in make_guides(pairs, protocol.strokes).items()}
    keys = None if protocol.num_fills == 1 else make_noise_of_fill(pairs, number)[index]
    try:
        return model.fill(pairs.images[index], pairs.masks[index], guides, keys)[:count]
    except NonFiniteFillError as fault:
        pair = int(index[fault.number])
        named = name_pair((pairs.keys[pair], pairs.specs[pair]))
        raise JobError(f"{model.identity['model']} fills {named} with values that are not finite") from None
