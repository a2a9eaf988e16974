"""`lacuna export`: a model -> one file that fills holes without Lacuna, in TorchScript or ONNX."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from infra import storage
from infra.uris import refuse_read_only, refuse_unwritable
from jobs.cli import run_as_module
from jobs.faults import refuse_empty
from jobs.options import URI, ModelURI
from jobs.progress import say
from pipelines.export.formats import Format, read_facts, refuse_format, refuse_missing_packages, write_file
from pipelines.export.source import open_source
from pipelines.export.trial import compare_fills
from pipelines.filling.files import read_file
from pipelines.records import UsageError, sha256_hex

_SUFFIXES: Final[Mapping[str, Format]] = {".onnx": "onnx", ".pt": "torchscript", ".pth": "torchscript"}


@dataclass(frozen=True)
class Arguments:
    """Write one file that takes a photo and a mask and gives the filled photo, of any size, for other programs.

    Both are float32, image N3HW in [0, 1] and mask N1HW with 1 = hole; out comes N3HW in [0, 1], known pixels as they
    were. The file is tried in a process without Lacuna before it is written. IOPaint loads a TorchScript file that
    LAMA_MODEL_URL names as its model `lama`.
    """

    model: ModelURI
    """A checkpoint or run URI, `models:/NAME@champion` or `models:/NAME/VERSION`."""
    format: Format
    """Format to write; onnx needs the extra `lacuna[export]`."""
    out: URI
    """URI of the file to write; over an exported file that is there, and over no other."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Export, test, write and report."""
    check(arguments)
    refuse_missing_packages(arguments.format)
    _refuse_other_file(arguments.out)
    source = open_source(arguments.model)
    refuse_format(source.network, arguments.format)
    data = write_file(source.network, source.facts, arguments.format)
    say(f"{len(data) / 1e6:.1f} MB of {arguments.format}: tried in a process without Lacuna")
    difference = compare_fills(data, source.network, source.size_px, arguments.format)
    storage.publish(arguments.out, data)
    written = {"out": arguments.out, "format": arguments.format, "bytes": len(data), "sha256": sha256_hex(data)}
    return {**written, "largest_difference": difference, **source.facts}


def check(arguments: Arguments) -> None:
    """Raise UsageError for options that are empty, or name a folder or a file of the other format."""
    out, form = arguments.out, arguments.format
    refuse_empty(model=arguments.model, out=out)
    refuse_read_only(out)
    if out.endswith("/"):
        raise UsageError(f"--out is {out}, a folder: name a file to write to")
    named = _SUFFIXES.get(PurePosixPath(out).suffix.lower(), form)
    if named != form:
        raise UsageError(f"--format is {form}, --out is {out}: name a file of that format, or give --format {named}")


def _refuse_other_file(out: str) -> None:
    """Raise UsageError where something stands at `out` that was not exported, or where no file can."""
    if (local := storage.to_local_path(out)) is not None:
        refuse_unwritable(local.parent)
    if not storage.exists(out):
        return
    try:
        facts = read_facts(read_file(out))
    except (storage.NotAFileError, IsADirectoryError, FileNotFoundError):  # on a store a folder is no file
        facts = None
    if facts is None:
        raise UsageError(f"--out is {out}: it is there and is no exported model. Give another name, or remove it")


if __name__ == "__main__":
    run_as_module("export")
