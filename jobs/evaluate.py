"""`lacuna evaluate`: a model and a dataset -> scores per hole-ratio bin, with a passport that says what they mean."""

from dataclasses import dataclass
from typing import Any

from infra import storage
from infra.lock import lock_folder
from jobs.cli import run_as_module
from jobs.progress import progress, say
from nets.filling import ProcedureName
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.metrics import METRICS
from pipelines.evaluation.pairs import EvalSize
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import ALL, Scorecard, Scores


@dataclass(frozen=True)
class Arguments:
    """Score a model on the held-out photos of a dataset, each with the masks that the dataset fixes for it."""

    model: str
    """A checkpoint or run URI, `models:/NAME/VERSION`, `models:/NAME@champion`, `telea` or `navier-stokes`."""
    data: str
    """URI of the dataset."""
    out: str
    """URI for scores.json and pairs.parquet."""
    split: str = "val"
    """Which photos."""
    resize: str = "centre-square"
    """How photos come to the size of their masks."""
    strokes: bool = False
    """Give a sketch-guided network the photos' own edges in the holes, as strokes of a user."""
    num_fills: int = 1
    """Of so many fills of each hole the best counts; for a probabilistic network."""
    size: EvalSize | None = None
    """`own`: each photo at its own height and width; or the side in px of squares. If not given, that of the masks."""
    procedure: ProcedureName | None = None
    """How a network fills photos of another size than its own; if not given, in the model's own way."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Scores, stores and reports."""
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
    say(table(card))
    return {
        "model": card.model,
        "scores": card.summary(),
        "baselines": card.baseline_summaries(),
        "passport": card.passport,
    }


def table(card: Scorecard) -> str:
    """The scores as text: a row per bin that has pairs, then one per baseline over all pairs."""
    rows = [f"{'hole ratio':<13} {'pairs':>6} " + " ".join(f"{m:>10}" for m in METRICS)]
    bins = [name for name, score in card.scores[METRICS[0]].items() if score.count]
    rows += [_row(name, card.scores, name) for name in bins]
    rows += [_row(name, scores, ALL) for name, scores in card.baselines.items()]
    return "\n".join(rows)


def _row(title: str, scores: Scores, bin_name: str) -> str:
    means = " ".join(f"{scores[m][bin_name].mean:>10.3f}" for m in METRICS)
    return f"{title:<13} {scores[METRICS[0]][bin_name].count:>6} {means}"


if __name__ == "__main__":
    run_as_module("evaluate")
