"""`lacuna evaluate`: a model and a dataset, or a system's folder of results -> scores and the protocol behind them."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from infra import storage
from infra.lock import lock_folder
from jobs.cli import run_as_module
from jobs.options import URI, ModelURI
from jobs.progress import progress, say
from nets.filling import ProcedureName
from pipelines.evaluation.card import PAGE_FILE, Progress
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.evaluate_results import ResultFolders, evaluate_results
from pipelines.evaluation.pairs import EvalSize
from pipelines.evaluation.protocol import PROTOCOLS, EvalProtocol, ProtocolName, Quantization
from pipelines.evaluation.scorecard import Scorecard
from pipelines.evaluation.scoring import refuse_unknown_metrics
from pipelines.evaluation.tables import list_tables
from pipelines.records import UsageError

_OF_RESULTS: Final = {"hole": "auto", "missing": "refuse"}
"""Options of a folder of results, with their defaults."""
_OF_A_DATASET: Final = ("split", "resize", "num_fills", "procedure", "quantization", "size")
"""Options that a folder of results, which is scored as it is, does not have."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Score a model on the held-out photos of a dataset, each with the masks that the dataset stores for it.

    With --results instead of --model and --data: score another system's pictures, paired by name with photos and masks.
    """

    out: URI
    """Folder or URI for scores.json, scores.html and pairs.parquet."""
    model: ModelURI | None = None
    """Checkpoint or run, models:/NAME/VERSION, models:/NAME@champion, a filler such as telea, or onnx:FILE."""
    data: URI | None = None
    """URI of the dataset. A network of track 2 is given the segmentation maps that it stores."""
    protocol: ProtocolName = "lacuna"
    """What the scores mean: Lacuna's own protocol or that of a paper's table. The options below replace parts of it."""
    metrics: tuple[str, ...] = ()
    """Metrics besides those of the protocol, such as lpips_alex_hole or fid_vgg16."""
    split: str | None = None
    """Split whose photos are scored: val or test."""
    resize: str | None = None
    """How photos become squares; by default as the protocol says, or as in the model's training."""
    strokes: bool = False
    """Give a sketch-guided network the photos' own edges in the holes, as a user's strokes would be."""
    num_fills: int | None = None
    """Number of fills of each hole, of which the best counts; for a probabilistic network."""
    size: EvalSize | None = None
    """own for each photo at its own height and width, or the side of squares in px; by default that of the masks."""
    procedure: ProcedureName | None = None
    """How a network fills photos of another size than its own; by default the model's own way."""
    quantization: Quantization | None = None
    """How fills become whole levels."""
    results: URI | None = None
    """Folder, pattern or URI of the pictures that another system made."""
    photos: URI | None = None
    """Folder, pattern or URI of the photos that it was given."""
    masks: URI | None = None
    """Folder, pattern or URI of the masks, or with a color as --hole of the masked photos."""
    hole: str = "auto"
    """What marks a hole: auto, white, black, alpha (transparent), or a color such as "#ff00ff"."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do with photos that have no result."""
    system: str = ""
    """Name of the system in the scorecard; needed with --results, as are --photos and --masks."""


def check(arguments: Arguments) -> None:
    """Raise UsageError for options that are missing, do not fit together, or name no metric."""
    _refuse_unfit_options(arguments)
    refuse_unknown_metrics(make_protocol(arguments))


def run(arguments: Arguments) -> dict[str, Any]:
    """Score the model or the results, store the scores and report."""
    check(arguments)
    protocol, out = make_protocol(arguments), storage.to_absolute(arguments.out)
    with lock_folder(arguments.out), progress() as show:
        card = _score(arguments, protocol, out, lambda *n: show("evaluating", *n))
    for note in card.passport["notes"]:
        say(f"note: {note}")
    say("\n\n".join(table.as_text() for table in list_tables(card)))
    return {
        "model": card.model,
        "scores": card.summary(),
        "sets": card.sets,
        "baselines": card.baseline_summaries(),
        "passport": card.passport,
        "page": storage.join(out, PAGE_FILE),
    }


def _score(arguments: Arguments, protocol: EvalProtocol, out: str, show: Progress) -> Scorecard:
    if arguments.model and arguments.data:
        return evaluate(arguments.model, storage.to_absolute(arguments.data), out, show, protocol)
    assert arguments.results
    assert arguments.photos
    assert arguments.masks
    folders = ResultFolders(
        arguments.system, arguments.results, arguments.photos, arguments.masks, arguments.hole, arguments.missing
    )
    return evaluate_results(folders, out, show, protocol)


def make_protocol(arguments: Arguments) -> EvalProtocol:
    """Protocol of this name with the settings that are given."""
    base = PROTOCOLS[arguments.protocol]
    names = ("split", "resize", "num_fills", "size", "procedure", "quantization")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if isinstance(arguments.size, int) and base.size == "own":
        given.setdefault("procedure", None)  # squares of the network's size, DeepGIN's rows "(256)"
    metrics = tuple(dict.fromkeys((*base.metrics, *arguments.metrics)))
    return replace(base, strokes=arguments.strokes, metrics=metrics, **given)


def _refuse_unfit_options(arguments: Arguments) -> None:
    """Raise UsageError for options of the two ways to score that are missing or mixed."""
    ours, theirs = ("model", "data"), ("results", "photos", "masks", "system")
    wanted, other = (theirs, ours) if arguments.results else (ours, theirs)
    if missing := [f"--{name}" for name in wanted if not getattr(arguments, name)]:
        way = "--model and --data, or --results, --photos, --masks and --system"
        raise UsageError(f"{', '.join(missing)} is missing: give {way}")
    extra = [name for name in other if getattr(arguments, name)]
    if not arguments.results:
        extra += [name for name, default in _OF_RESULTS.items() if getattr(arguments, name) != default]
    if arguments.results:
        extra += [name for name in _OF_A_DATASET if getattr(arguments, name) is not None]
        extra += ["strokes"] * arguments.strokes
    if extra:
        raise UsageError(f"--{extra[0].replace('_', '-')} does not go with --{wanted[0]}: leave it out")
    _refuse_input_as_output(arguments)


def _refuse_input_as_output(arguments: Arguments) -> None:
    """Raise UsageError where the scores would lie among what is scored."""
    out = storage.to_absolute(arguments.out).rstrip("/")
    for name in ("data", "results", "photos", "masks"):
        if (uri := getattr(arguments, name)) and storage.to_absolute(uri).rstrip("/") == out:
            raise UsageError(f"--out is the folder of --{name}: name another one for the scores")


if __name__ == "__main__":
    run_as_module("evaluate")
