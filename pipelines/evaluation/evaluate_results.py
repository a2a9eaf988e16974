"""From a system's folder of results to scores: the same metrics, tables and page as for our own models.

In: folders of results, photos and masks. Out: a `Scorecard` of the composed results, with the scores of the results as
they are given beside them, and how much the system changed known pixels.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from infra.cluster import connect_ray, run_tasks
from pipelines.evaluation.card import Progress, find_card, list_baselines, make_card, publish_card
from pipelines.evaluation.metrics import measure_pairs
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK, Pairs
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.result_pairs import ResultPair
from pipelines.evaluation.results import OTHER_SIZE, Missing, ResultSet, open_results, read_result_chunk
from pipelines.evaluation.scorecard import Scorecard
from pipelines.evaluation.scores_page import Shown
from pipelines.evaluation.scoring import ChunkScores, choose_metrics, describe_sets, score_pairs
from pipelines.pictures import whiten_hole

_DATASET: Final = "folders"
"""Name of the dataset in passports: the pairs' digest says which photos and holes they are."""
_SKIPPED: Final = {"results": "they have no result", "masks": "they have no mask", OTHER_SIZE: "of another size"}
_AS_GIVEN: Final = ("psnr_image", "ssim_image", "l1_image")


@dataclass(frozen=True)
class ResultFolders:
    """Photos and masks that a system was given and its results, by paths, patterns or URIs."""

    system: str
    results: str
    photos: str
    masks: str
    hole: str = "auto"
    missing: Missing = "refuse"


def evaluate_results(folders: ResultFolders, out: str, progress: Progress, protocol: EvalProtocol) -> Scorecard:
    """Scorecard of the results and the baselines, published under `out`; if done before, read it.

    Raises UsageError, before any pair is scored, for files that do not fit together.
    """
    # Check all files before the first pair.
    as_they_are = replace(protocol, size="own", num_fills=1, procedure=None, quantization="round")
    protocol, notes = choose_metrics(as_they_are)
    if protocol.name != "lacuna":
        notes.append(f"photos are scored at their own size; the protocol {protocol.name} may have another")
    found = open_results(folders.results, folders.photos, folders.masks, folders.hole, folders.missing)
    identity = {"model": f"results:{folders.system}", "inputs_sha256": found.inputs_sha256}
    settings = {"results": found.as_json(), "resize": "none"}
    if (card := find_card(identity, settings, protocol, out)) is not None:
        return card
    # Score all chunks.
    results: dict[int, ChunkScores] = {}
    tasks = [(found.select_chunk(chunk), protocol, chunk) for chunk in range(found.num_chunks)]
    with connect_ray():
        for chunk, scores in run_tasks(_score_chunk, tasks):
            results[chunk] = scores
            progress(len(results), len(tasks))
    scores = ChunkScores.merge(results[chunk] for chunk in range(len(tasks)))
    # Check the card and publish it.
    notes += [*_describe_files(found), *_describe_pairs(scores.rows), *_describe_changes(scores.rows)]
    facts = {"dataset": _DATASET, "notes": [*notes, *describe_sets(scores)]}
    card = make_card(identity, settings | facts, protocol, scores)
    publish_card(card, out, lambda rows: _draw(found, card.rows, rows))
    return card


def _score_chunk(found: ResultSet, protocol: EvalProtocol, chunk: int) -> tuple[int, ChunkScores]:
    """Scores of a set of one chunk, pair by pair, as their sizes differ."""
    return chunk, ChunkScores.merge(_score_pair(pair, protocol) for pair in read_result_chunk(found, 0))


def _score_pair(pair: ResultPair, protocol: EvalProtocol) -> ChunkScores:
    pairs = Pairs((pair.key,), (pair.spec,), pair.image[None], pair.mask[None])
    baselines = {name: open_model(name).fill(pairs.images, pairs.masks) for name in list_baselines("")}
    scores = score_pairs(pairs, pair.composed[None], protocol, baselines)
    given = measure_pairs(pairs.images, pairs.masks, pair.given[None], _AS_GIVEN)
    scores.rows[0] |= {f"given_{name}": float(column[0]) for name, column in given.items()}
    scores.rows[0]["notes"] = "; ".join(pair.notes)
    scores.rows[0] |= {f"known_change_{name}": float(value) for name, value in pair.change._asdict().items()}
    return scores


def _describe_files(found: ResultSet) -> list[str]:
    """Say how the hole was found, and which files are not scored."""
    skipped = [
        f"not scored: {len(u)} of {found.num_photos} photos, {_SKIPPED[why]}" for why, u in found.skipped.items()
    ]
    unused = [f"{count} files of --{role} belong to no photo" for role, count in found.unused.items() if count]
    return [f"the hole is {found.hole.color} ({found.hole.evidence})", *skipped, *unused]


def _describe_pairs(rows: list[dict[str, Any]]) -> list[str]:
    """Say what was converted in photos, masks and results, and in how many pairs, with an example."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["notes"].split("; ")):
            found.setdefault(re.sub(r"[\d,.]+", "", note), []).append(f"{note} ({row['key']})")
    return [f"{len(notes)} of {len(rows)} pairs: {notes[0]}" for notes in found.values()]


def _describe_changes(rows: list[dict[str, Any]]) -> list[str]:
    """Say how many known pixels the system changed; scores are of composed pictures."""
    changed = [row for row in rows if row["known_change_share"] > 0]
    if not changed:
        return []
    share, levels = (np.mean([row[f"known_change_{n}"] for row in rows]) for n in ("share", "mean_levels"))
    most = max(row["known_change_max_levels"] for row in rows)
    given = np.mean([row["given_psnr_image"] for row in rows])
    return [
        f"{len(changed)} of {len(rows)} results changed known pixels, {100 * share:.1f} % of them by {levels:.2f} "
        f"levels in the mean, at most {most:.0f}: scores are of results with the photo's known pixels. "
        f"As given they have {given:.2f} dB PSNR"
    ]


def _draw(found: ResultSet, rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[Shown]:
    """Pictures of the wanted rows."""
    numbers = {row["key"]: number for number, row in enumerate(rows)}
    shown = []
    for row in wanted:
        chunk, place = divmod(numbers[row["key"]], PHOTOS_PER_CHUNK)
        pair = list(read_result_chunk(found, chunk))[place]
        shown.append(Shown(pair.image, whiten_hole(pair.image[None], pair.mask[None])[0], pair.composed))
    return shown
