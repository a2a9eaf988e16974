"""`lacuna fill`: photos and masks -> the photos with their holes filled, each in a file that other tools open."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal, get_args

from infra import storage
from infra.lock import lock_folder
from infra.uris import refuse_read_only, refuse_unwritable
from jobs.cli import run_as_module
from jobs.faults import VerbError, refuse_empty
from jobs.options import URI, ModelURI
from jobs.progress import say, slow_progress
from nets.filling import NonFiniteFillError, ProcedureName
from nets.procedures.network import ChallengeSteps
from pipelines.evaluation.models import Model, choose_device, open_model
from pipelines.filling.batch import Row, State, fill_all
from pipelines.filling.encode import SUFFIXES, Encoding, Format, choose_encoding
from pipelines.filling.files import PictureFiles, find_files, make_relative, read_file
from pipelines.filling.fill_photo import FillSettings, fill_photo, refuse_untaken
from pipelines.filling.hole import HoleColor, HoleSettings
from pipelines.filling.orientation import MaskOrientation
from pipelines.filling.pairing import MASK, Job, count_unused, find_left_out, pair, refuse_overwriting
from pipelines.filling.photo_files import Keepable
from pipelines.filling.record import FillRecords
from pipelines.records import JobError, UsageError

_URI_OPTIONS: Final = ("model", "image", "mask", "sketch", "segmentation", "out")
_MAX_ROWS: Final = 200
_MAX_NAMED: Final = 20
_LEFT_OUT: Final = "a mask or map of another picture by its name: to fill it, name it alone as --image"


@dataclass(frozen=True)
class Arguments:
    """Fill the holes of photos of any size. All other pixels stay as they are, in PNG and in lossless WebP, unless
    --grow or --feather are given."""

    model: ModelURI
    """`models:/NAME@champion`, `models:/NAME/VERSION`, a checkpoint or run URI; `telea`, `navier-stokes`, `biharmonic`,
    `nearest-patch` or `patchmatch`; `onnx:FILE` or `torchscript:FILE`, which runs code of the file's author."""
    image: URI
    """The photo: a file; or many: a folder, or a pattern such as 'photos/*.jpg' (quoted). URIs of stores, too."""
    out: URI
    """The file to write (.png, .jpg, .webp); for many photos, or with a / at its end, a folder."""
    mask: URI | None = None
    """The mask, of the photo's size: a file for all photos, or a folder or pattern with names as `x_mask.png`."""
    hole: HoleColor = "auto"
    """Color of the hole in the mask; auto is white, unless that looks inverted. alpha: the transparent pixels."""
    mask_orientation: MaskOrientation = "auto"
    """How masks, sketches and maps lie on photos that EXIF turns: as seen or as stored; auto decides by their sizes."""
    grow: int = 0
    """Known pixels around the hole that are filled too, px: for tight and soft-edged masks."""
    feather: int = 0
    """Width of a band around the hole in which the fill fades into the photo, px: its known pixels change."""
    format: Format | None = None
    """Format of files in a folder: png (default), jpeg or webp. One file has the format of its name."""
    quality: int | None = None
    """Quality, 1 to 100: of JPEG (default 95), or of WebP, which is lossless without it."""
    keep: tuple[Keepable, ...] = ("icc",)
    """Parts of the photo's file that the result keeps: transparency (alpha), color profile (icc), EXIF (exif)."""
    sketch: URI | None = None
    """Strokes for a sketch-guided network, dark on light or light on dark: as --mask."""
    segmentation: URI | None = None
    """Segmentation map for a network of track 2: as --mask."""
    num_fills: int = 1
    """Number of different fills of each hole, in files numbered from 1; for a probabilistic network."""
    seed: int = 0
    """Seed of several fills."""
    size: int | Literal["own"] = "own"
    """Longer side at which holes are filled, px; the result has the photo's own size all the same."""
    procedure: ProcedureName | None = None
    """How a network fills photos that are not of its size; the model's own if not given."""
    ensemble: bool = False
    """The mean of five fills, of the photo turned and mirrored, as DeepGIN's authors did; for a checkpoint."""
    blur: bool = False
    """Blur the fill a little, as DeepGIN's authors did; for a checkpoint."""


def check(arguments: Arguments) -> None:
    """Raise UsageError for options that are empty or do not fit together."""
    refuse_empty(**{name: getattr(arguments, name) for name in _URI_OPTIONS})
    refuse_read_only(arguments.out)
    if (arguments.mask is None) != (arguments.hole == "alpha"):
        raise UsageError("give --mask, or --hole alpha for photos whose transparency is the hole: one of the two")


def run(arguments: Arguments) -> dict[str, Any]:
    """Fill the holes, write the results and report."""
    check(arguments)
    photos, others = _find_pictures(arguments)
    _refuse_file(arguments.out, photos)
    many = not photos.is_one or _is_folder_name(arguments.out)
    if (local := storage.to_local_path(arguments.out)) is not None:
        refuse_unwritable(local if many else local.parent)
    settings = _make_settings(arguments, many)
    jobs = pair(photos, others)
    _refuse_overwriting(arguments.out, jobs, (photos, *others.values()), settings, many)
    device = choose_device()
    steps = ChallengeSteps(arguments.ensemble, arguments.blur)
    model = open_model(arguments.model, steps, arguments.procedure, device)
    refuse_untaken(model, others, settings.num_fills)
    say_how(settings)
    used = {"device": device, "procedure": model.procedure} if "weights_sha256" in model.identity else {}
    report = {**model.identity, "out": arguments.out, **_make_facts(arguments, settings.encoding), **used}
    if many:
        for option, number in count_unused(jobs, others).items():
            say(f"note: --{option} has {number} that belong to no photo")
        rows = _fill_many(arguments.out, jobs, model, settings, steps)
        rows += [Row(job, "left out", note=_LEFT_OUT) for job in find_left_out(photos, jobs)]
        say(format_table(rows))
        return _add_totals(report, rows)
    return report | _fill_one(arguments.out, jobs[0], model, settings)


def say_how(settings: FillSettings) -> None:
    """Print on stderr which known pixels will change."""
    if settings.encoding.quality is not None:
        lossless = "png, and webp without --quality, do not"
        say(f"note: {settings.encoding.format} loses a little of every pixel, known ones too; {lossless}")
    if settings.hole.grow_px or settings.hole.feather_px:
        px = settings.hole.grow_px + settings.hole.feather_px
        say(f"note: known pixels up to {px} px from a hole change, as --grow and --feather ask")


def _find_pictures(arguments: Arguments) -> tuple[PictureFiles, dict[str, PictureFiles]]:
    """Photos, and the files beside them by option."""
    given = {MASK: arguments.mask, "sketch": arguments.sketch, "segmentation": arguments.segmentation}
    photos = find_files(arguments.image, "--image")
    return photos, {option: find_files(uri, f"--{option}") for option, uri in given.items() if uri is not None}


def _refuse_file(out: str, photos: PictureFiles) -> None:
    """Raise UsageError where results of many photos would go to a path with the suffix of a file."""
    if not photos.is_one and not _is_folder_name(out) and PurePosixPath(out).suffix.lower() in SUFFIXES:
        raise UsageError(f"--out is {out}, a file, and --image names many photos: name a folder, such as {out}/")


def _is_folder_name(out: str) -> bool:
    local = storage.to_local_path(out)
    return out.endswith("/") or (local is not None and local.is_dir())


def _make_settings(arguments: Arguments, many: bool) -> FillSettings:
    keep = frozenset(arguments.keep)
    if many:
        storage.to_writable_folder(arguments.out)
    return FillSettings(
        choose_encoding(None if many else arguments.out, arguments.format, arguments.quality, keep),
        HoleSettings(arguments.hole, arguments.mask_orientation, arguments.grow, arguments.feather),
        tuple(sorted(keep)),
        None if arguments.size == "own" else arguments.size,
        arguments.num_fills,
        arguments.seed,
    )


def _refuse_overwriting(
    out: str, jobs: Sequence[Job], given: Sequence[PictureFiles], settings: FillSettings, many: bool
) -> None:
    """Raise UsageError where results would replace what they are made of; one file may replace its photo."""
    if many:
        refuse_overwriting(out, (file for job in jobs for file in settings.list_file_names(job.name)), given)
        return
    results = _make_result_uris(out, settings)
    inputs = [uri for job in jobs for uri in (*job.inputs.values(), *([job.image] if len(results) > 1 else []))]
    same = next((file for file in results if any(make_relative(file, uri) == "" for uri in inputs)), None)
    if same is not None:
        raise UsageError(f"--out is {out}: {same} is the mask or another input; name another file")


def _make_result_uris(out: str, settings: FillSettings) -> list[str]:
    """The file `out` itself, or a numbered one beside it for each of several fills."""
    stem, dot, suffix = out.rpartition(".")
    return [f"{name.rpartition('.')[0]}{dot}{suffix}" for name in settings.list_file_names(stem)]


def _make_facts(arguments: Arguments, encoding: Encoding) -> dict[str, Any]:
    """Facts for a report: how photos are filled and written."""
    several = {"num_fills": arguments.num_fills, "seed": arguments.seed} if arguments.num_fills > 1 else {}
    return {"format": encoding.format, "quality": encoding.quality, "size": arguments.size, **several}


def _fill_one(out: str, job: Job, model: Model, settings: FillSettings) -> dict[str, Any]:
    files = {option: read_file(uri) for option, uri in {"image": job.image, **job.inputs}.items()}
    names = _make_result_uris(out, settings)
    try:
        with slow_progress("filling", lambda: (0, 1, job.image)):
            filled = fill_photo(job, files, model, settings)
            if filled.normalized:
                done = ", ".join(filled.normalized)
                say(f"note: {job.image} was made upright 8-bit RGB before it was filled: {done}")
            for note in filled.notes:
                say(f"note: {job.image}: {note}")
            results = list(filled.files)
    except NonFiniteFillError as fault:
        raise JobError(f"{model.identity['model']} cannot fill {job.image}: {fault}") from None
    for name, data in zip(names, results, strict=True):
        storage.publish(name, data)
    done_before = {"normalised": list(filled.normalized)} if filled.normalized else {}
    return {**filled.facts, **({"files": names} if len(names) > 1 else {}), **done_before}


def _fill_many(out: str, jobs: Sequence[Job], model: Model, settings: FillSettings, steps: ChallengeSteps) -> list[Row]:
    """Results of all photos."""
    identity = dict(model.identity)
    if "weights_sha256" in identity and not identity["model"].startswith("models:/"):
        del identity["model"]  # the same weights under another path are the same model
    records = FillRecords(
        out, {"model": identity, "procedure": model.procedure, "steps": asdict(steps), **settings.as_json()}
    )
    records.refuse_foreign(file for job in jobs for file in settings.list_file_names(job.name))
    at = (0, "")

    def begin(number: int, job: Job) -> None:
        nonlocal at
        at = number, job.name

    with lock_folder(records.lock_uri), slow_progress("filling", lambda: (at[0], len(jobs), at[1])):
        return fill_all(jobs, model, settings, records, begin)


def _add_totals(report: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The report with the number of photos in each state; raises VerbError with it where one was refused."""
    refused = [row for row in rows if row.state == "refused"]
    counts = {f"num_{state.replace(' ', '_')}": sum(row.state == state for row in rows) for state in get_args(State)}
    num_photos = len(rows) - counts["num_left_out"]
    report |= {"num_photos": num_photos, **counts}
    if not refused:
        return report
    named = [{"image": row.job.image, "reason": row.note} for row in refused[:_MAX_NAMED]]
    raise VerbError(f"{len(refused)} of {num_photos} photos were refused: see the table", report | {"refused": named})


def format_table(rows: Sequence[Row]) -> str:
    """Table of results; of more than 200 photos, only those with a note."""
    shown = [row for row in rows if len(rows) <= _MAX_ROWS or row.note]
    names = [_escape(row.job.name) for row in shown]
    width = max(map(len, ["photo", *names]))
    lines = [f"{'photo':<{width}}  {'state':<8} {'size':>11} {'hole':>7}"]
    for name, r in zip(names, shown, strict=True):
        lines.append(f"{name:<{width}}  {r.state:<8} {r.size:>11} {r.hole:>7}  {_escape(r.note)}".rstrip())
    if len(shown) < len(rows):
        lines.append(f"({len(rows) - len(shown)} more were filled or skipped)")
    return "\n".join(lines)


def _escape(text: str) -> str:
    """The text with line ends and control characters escaped: files may have any name."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


if __name__ == "__main__":
    run_as_module("fill")
