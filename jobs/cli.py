"""The command `lacuna`: finds the verb, parses its options, runs it, and keeps the contract of every command.

Progress and tables go to stderr. Stdout carries exactly one line, a JSON report, on failure too. Exit 0 only if it was
really done, 1 for a fault of the work, 2 for bad usage. A verb's module is imported only when it is called.
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
    "demo": "the whole way once: photos to a promoted model",
    "shard": "build or change a dataset of webdataset shards",
    "verify": "check every byte of a dataset, or make a lost manifest again",
    "where": "find the shard that holds a photo",
    "stream": "show what a training would see: photos, crops and masks",
    "probe": "measure what this machine does at most",
    "recipe": "list the recipes, or describe one",
    "train": "train a recipe on datasets",
    "resume-check": "prove that a killed training ends where an undisturbed one does",
    "evaluate": "score a model on the held-out photos of a dataset",
    "register": "register a scored checkpoint as a model version",
    "promote": "make a version the champion if it is better",
    "rollback": "make the champion before the present one champion again",
    "fill": "fill the holes of photos",
    "export": "write a model as one file for other programs: TorchScript or ONNX",
    "weights": "make files of pretrained weights from those you have",
    "submit": "run a verb as a job on a Ray cluster",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lacuna VERB ...`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(*(words or [""]))
        sys.stdout.flush()
    except BrokenPipeError:  # who read stdout has left, as `head` does; Python would flush it once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(verb: str, *arguments: str) -> int:
    if verb in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if verb in VERBS:
        return run_verb(verb, list(arguments))
    problem = f"unknown verb {verb!r}" if verb else "no verb given"
    print(f"{problem}\n\n{_overview()}", file=sys.stderr)
    print(json.dumps({"verb": verb, "seconds": 0.0, "error": f"{problem}: known are {', '.join(VERBS)}"}))
    return 2


def run_verb(verb: str, arguments: list[str]) -> int:
    """Runs one verb with its arguments and prints its report; returns the exit code."""
    from infra.settings import apply_defaults

    apply_defaults()
    if {"-h", "--help"} & set(arguments):
        return _help(_asked_about(verb, arguments))
    with _OneLineOnStdout() as stdout, _terminated_as_interrupted():
        started = time.monotonic()
        code, report = _outcome(verb, arguments)
        stdout.write(json.dumps({"verb": verb, "seconds": round(time.monotonic() - started, 2), **report}) + "\n")
    return code


def get_module_name(verb: str) -> str:
    """The name of the module that is the verb."""
    return f"jobs.{verb.replace('-', '_')}"


def _module(verb: str) -> Any:
    return importlib.import_module(get_module_name(verb))


def _asked_about(verb: str, arguments: Sequence[str]) -> str:
    """The verb whose options `--help` asks for: behind `submit` another one may stand."""
    before = next(arguments[:at] for at, word in enumerate(arguments) if word in ("-h", "--help"))
    return next((word for word in before if verb == "submit" and word in VERBS), verb)


def _help(verb: str) -> int:
    """Prints the options of a verb on stdout."""
    import tyro

    try:
        tyro.cli(_module(verb).Arguments, args=["--help"], prog=f"lacuna {verb}")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _outcome(verb: str, arguments: list[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a verb."""
    from infra.credentials import load_secrets

    try:
        load_secrets()
        module = _module(verb)
        parse = getattr(module, "parse", None) or (lambda words: _parsed(module, verb, words))
        try:
            parsed = parse(arguments)
        except SystemExit:  # tyro has explained itself on stderr
            return 2, {"error": f"bad usage: see `lacuna {verb} --help`"}
        return 0, module.run(parsed)
    except (KeyboardInterrupt, SystemExit):  # while Ray starts, SIGTERM is its own and raises SystemExit
        return 1, _told("interrupted: the same command goes on from here")
    except Exception as fault:  # noqa: BLE001 - the last door: every fault becomes a report and a true exit code
        return _exit_code(fault), _told(_message(fault)) | getattr(fault, "report", {})


def _parsed(module: Any, verb: str, words: list[str]) -> Any:
    import tyro

    return tyro.cli(module.Arguments, args=words, prog=f"lacuna {verb}")


def _exit_code(fault: Exception) -> int:
    from jobs.faults import BAD_USAGE, VerbError

    if isinstance(fault, VerbError):
        return fault.exit_code
    return 2 if isinstance(fault, BAD_USAGE) else 1


def _message(fault: Exception) -> str:
    """The fault's own words; for one that nobody foresaw, its traceback goes to stderr."""
    from jobs.faults import FORESEEN

    if not isinstance(fault, FORESEEN):
        traceback.print_exception(fault, file=sys.stderr)
        return f"{type(fault).__name__}: {fault}"
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.strerror}: {fault.filename}" if fault.filename else fault.strerror
    return str(fault) or ("not enough memory" if isinstance(fault, MemoryError) else type(fault).__name__)


def _told(error: str) -> dict[str, Any]:
    print(f"error: {error}", file=sys.stderr)
    return {"error": error}


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, what in VERBS.items()]
    return "\n".join(["usage: lacuna VERB ...", "", *lines, "", "`lacuna VERB --help` tells its options."])


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which job managers send, ends a verb as Ctrl-C does: in order, and with a report."""
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
    """Sends everything that anybody prints to stderr for the time of a block, and hands out the real stdout."""

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
    """`python -m jobs.<verb>`: the same as `lacuna <verb>`."""
    sys.exit(run_verb(verb, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
