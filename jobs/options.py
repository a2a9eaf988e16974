"""Options of the verbs: their parser and help by tyro, and the kinds of values that name files.

In: a dataclass of options and the words of a command. Out: the dataclass with values, and the files that it names.
"""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from inspect import getdoc
from typing import Annotated, Any, Final, TypeVar, get_args, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

_Arguments = TypeVar("_Arguments")


def _make_kind(metavar: str) -> PrimitiveConstructorSpec[str]:
    """Kind of text that help shows by this name."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )


URI = Annotated[str, _make_kind("URI")]
"""File, folder or URI."""
ModelURI = Annotated[str, _make_kind("MODEL")]
"""URI of a checkpoint or run, of a registered version, or the name of a classical method."""
Key = Annotated[str, _make_kind("KEY")]
"""Key of a photo, or @FILE with keys."""
Name = Annotated[str, _make_kind("NAME")]
"""Name of a recipe, model or source."""
_VERSION: Final = "models:/"
_OF_A_FILE: Final = ("onnx:", "torchscript:")


def parse_options(arguments: type[_Arguments], verb: str, words: Sequence[str]) -> _Arguments:
    """Arguments of a verb; raises SystemExit after the reason is on stderr, or after help is on stdout."""
    # tyro joins lines of a description unless they begin with a space.
    width = min(shutil.get_terminal_size().columns, 120)
    paragraphs = (getdoc(arguments) or "").split("\n\n")
    lines = (textwrap.fill(" ".join(text.split()), width, subsequent_indent=" ") for text in paragraphs)
    flags = (tyro.conf.FlagCreatePairsOff,)  # --dry-run alone, without --no-dry-run
    return tyro.cli(arguments, args=list(words), prog=f"lacuna {verb}", description="\n\n".join(lines), config=flags)


def list_files(arguments: Any) -> Iterator[tuple[str, str]]:
    """Yield the option and the value of every file, folder and URI that the arguments name."""
    for name, hint in get_type_hints(type(arguments), include_extras=True).items():
        if not (kind := _find_kind(hint)):
            continue
        option = kind if tyro.conf.Positional in get_args(hint) else f"--{name.replace('_', '-')}"
        value: str | tuple[str, ...] | None = getattr(arguments, name)
        for text in [value] if isinstance(value, str) else value or ():
            if kind == "URI":
                yield option, text
            elif kind == "MODEL":
                yield from ((option, file) for file in _list_model_files(text))
            elif kind == "KEY" and text.startswith("@"):
                yield option, text[1:]


def _list_model_files(name: str) -> Iterator[str]:
    """Yield the URI of a model's files; classical methods and registered versions have none here."""
    from pipelines.evaluation.classical import METHODS

    prefix = next((prefix for prefix in _OF_A_FILE if name.startswith(prefix)), "")
    if not name.startswith(_VERSION) and name not in METHODS:
        yield name.removeprefix(prefix)


def _find_kind(hint: Any) -> str:
    """Name of the kind of an option's values; empty for all others."""
    if isinstance(hint, PrimitiveConstructorSpec):
        return hint.metavar if isinstance(hint.metavar, str) else ""
    return next(filter(None, map(_find_kind, get_args(hint))), "")
