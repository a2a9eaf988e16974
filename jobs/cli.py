"""The command `lacuna`: finds the verb, parses its options, runs it and prints its report.

Progress and tables go to stderr. Stdout gets exactly one line, a JSON report, on failure too. The exit code is 0 only
on success, 1 if the work failed, 2 for bad usage. A verb's module is imported only when it is called.
"""

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

VERBS: Final = {
    "demo": "run all steps once: from photos to a promoted model",
    "shard": "build or change a dataset of webdataset shards",
    "verify": "check every byte of a dataset, or rebuild a lost manifest",
    "where": "find the shard that holds a photo",
    "stream": "show the photos, crops and masks of a training's batches",
    "probe": "measure the speed of this machine",
    "recipe": "list the recipes, or describe one",
    "train": "train a recipe on datasets",
    "resume-check": "prove that a killed training ends with the weights of an undisturbed one",
    "evaluate": "score a model on held-out photos, or the results of another system",
    "compare": "compare scorecards over the same pairs",
    "register": "register a scored checkpoint as a model version",
    "promote": "make a version the champion if it is better",
    "rollback": "make the previous champion the champion again",
    "fill": "fill the holes of photos",
    "export": "write a model as one file for other programs: TorchScript or ONNX",
    "weights": "convert published files of pretrained weights",
    "submit": "run a verb as a job on a Ray cluster",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `lacuna VERB ...` and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(*(words or [""]))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout has closed it, as `head` does; Python would flush it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(verb: str, *arguments: str) -> int:
    if verb in ("-h", "--help", "help"):
        print(_format_overview())
        return 0
    if verb in VERBS:
        return run_verb(verb, list(arguments))
    problem = f"unknown verb {verb!r}" if verb else "no verb given"
    print(f"{problem}\n\n{_format_overview()}", file=sys.stderr)
    print(json.dumps({"verb": verb, "seconds": 0.0, "error": f"{problem}: use one of {', '.join(VERBS)}"}))
    return 2


def run_verb(verb: str, arguments: list[str]) -> int:
    """Run one verb with its arguments, print its report, and return the exit code."""
    from infra.settings import apply_defaults

    apply_defaults()
    if {"-h", "--help"} & set(arguments):
        return _print_help(_find_help_verb(verb, arguments))
    with _OneLineOnStdout() as stdout, _interrupt_on_sigterm():
        started = time.monotonic()
        code, report = _call_verb(verb, arguments)
        stdout.write(json.dumps({"verb": verb, "seconds": round(time.monotonic() - started, 2), **report}) + "\n")
    return code


def get_module_name(verb: str) -> str:
    """Name of the module that implements the verb."""
    return f"jobs.{verb.replace('-', '_')}"


def _find_help_verb(verb: str, arguments: Sequence[str]) -> str:
    """Verb whose options `--help` asks for: another one may follow `submit`."""
    before = next(arguments[:at] for at, word in enumerate(arguments) if word in ("-h", "--help"))
    return next((word for word in before if verb == "submit" and word in VERBS), verb)


def _print_help(verb: str) -> int:
    """Print the options of a verb on stdout, and return the exit code."""
    from jobs.options import parse_options

    try:
        parse_options(importlib.import_module(get_module_name(verb)).Arguments, verb, ["--help"])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _call_verb(verb: str, arguments: list[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a verb."""
    from infra.credentials import load_secrets

    try:
        load_secrets()
        module, parsed = parse_verb(verb, arguments)
        return 0, module.run(parsed)
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, its own handler of SIGTERM raises SystemExit
        return 1, _report_error("interrupted: run the same command again to continue")
    except Exception as fault:  # noqa: BLE001 - every exception becomes a report and an exit code
        return _choose_exit_code(fault), _report_error(_format_fault(fault)) | getattr(fault, "report", {})


def parse_verb(verb: str, words: list[str]) -> tuple[Any, Any]:
    """Module of a verb and its arguments, by its own parser if it has one; raises UsageError."""
    from jobs.options import parse_options
    from pipelines.records import UsageError

    module = importlib.import_module(get_module_name(verb))
    try:
        if hasattr(module, "parse"):
            return module, module.parse(words)
        return module, parse_options(module.Arguments, verb, words)
    except SystemExit:  # tyro has printed the reason on stderr
        raise UsageError(f"bad usage: see `lacuna {verb} --help`") from None


def _choose_exit_code(fault: Exception) -> int:
    from jobs.faults import BAD_USAGE, VerbError

    if isinstance(fault, VerbError):
        return fault.exit_code
    return 2 if isinstance(fault, BAD_USAGE) else 1


def _format_fault(fault: Exception) -> str:
    """Message of an exception; for one that is not expected, the traceback goes to stderr."""
    from jobs.faults import EXPECTED

    if not isinstance(fault, EXPECTED):
        traceback.print_exception(fault, file=sys.stderr)
        return f"{type(fault).__name__}: {fault}"
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.strerror}: {fault.filename}" if fault.filename else fault.strerror
    return str(fault) or ("not enough memory" if isinstance(fault, MemoryError) else type(fault).__name__)


def _report_error(error: str) -> dict[str, Any]:
    print(f"error: {error}", file=sys.stderr)
    return {"error": error}


def _format_overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: lacuna VERB ...", "", *lines, "", "`lacuna VERB --help` lists the options of a verb."])


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM, which job managers send, as Ctrl-C: the verb cleans up and prints a report."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _OneLineOnStdout:
    """A block in which all prints go to stderr; its value is the real stdout."""

    def __enter__(self) -> Any:
        sys.stdout.flush()
        self._saved = os.dup(1)
        os.dup2(2, 1)
        self._stdout = os.fdopen(os.dup(self._saved), "w")
        return self._stdout

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        self._stdout.close()
        os.dup2(self._saved, 1)
        os.close(self._saved)


def run_as_module(verb: str) -> None:
    """Run `python -m jobs.<verb>` as `lacuna <verb>`."""
    sys.exit(run_verb(verb, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
