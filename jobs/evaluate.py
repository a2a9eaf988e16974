"""`lacuna evaluate`: a model and a dataset -> scores per hole-ratio bin, with the protocol that defines them."""

from dataclasses import dataclass
from typing import Any

from infra import storage
from infra.lock import lock_folder
from jobs.cli import run_as_module
from jobs.options import URI, ModelURI
from jobs.progress import progress, say
from nets.filling import ProcedureName
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.pairs import EvalSize
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import ALL, Scorecard, Scores


@dataclass(frozen=True)
class Arguments:
    """Score a model on the held-out photos of a dataset, each with the masks that the dataset stores for it."""

    model: ModelURI
    """URI of a checkpoint or run, models:/NAME/VERSION, models:/NAME@champion, telea or navier-stokes."""
    data: URI
    """URI of the dataset. A network of track 2 is given the segmentation maps that it stores."""
    out: URI
    """Folder or URI for scores.json and pairs.parquet."""
    split: str = "val"
    """Split whose photos are scored: val or test."""
    resize: str = "centre-square"
    """How photos are resized to the size of their masks."""
    strokes: bool = False
    """Give a sketch-guided network the photos' own edges in the holes, as a user's strokes would be."""
    num_fills: int = 1
    """Number of fills of each hole, of which the best counts; for a probabilistic network."""
    size: EvalSize | None = None
    """own for each photo at its own height and width, or the side of squares in px; by default that of the masks."""
    procedure: ProcedureName | None = None
    """How a network fills photos of another size than its own; by default the model's own way."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Score the model, store the scores and report."""
    with lock_folder(arguments.out), progress() as show:
        card = evaluate(
            arguments.model,
            storage.to_absolute(arguments.data),
            arguments.split,
            arguments.resize,
            storage.to_absolute(arguments.out),
            lambda *n: show("evaluating", *n),
            EvalProtocol(arguments.strokes, arguments.num_fills, arguments.size, arguments.procedure),
        )
    say(format_table(card))
    return {
        "model": card.model,
        "scores": card.summary(),
        "baselines": card.baseline_summaries(),
        "passport": card.passport,
    }


def format_table(card: Scorecard) -> str:
    """Table of scores as text: a row per bin that has pairs, then one per baseline over all pairs."""
    rows = [f"{'hole ratio':<13} {'pairs':>6} " + " ".join(f"{m:>10}" for m in METRICS)]
    bins = [name for name, score in card.scores[METRICS[0]].items() if score.count]
    rows += [_format_row(name, card.scores, name) for name in bins]
    rows += [_format_row(name, scores, ALL) for name, scores in card.baselines.items()]
    return "\n".join(rows)


def _format_row(title: str, scores: Scores, bin_name: str) -> str:
    means = " ".join(f"{scores[m][bin_name].mean:>10.3f}" for m in METRICS)
    return f"{title:<13} {scores[METRICS[0]][bin_name].count:>6} {means}"


if __name__ == "__main__":
    run_as_module("evaluate")
