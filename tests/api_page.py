"""The reference page of the public module: `python -m tests.api_page` writes docs/api.md, `--check` compares it.

In: `lacuna`. Out: for each public name its home, signature, docstring and public attributes.
"""

import inspect
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

import lacuna

PAGE: Final = Path(__file__).parent.parent / "docs" / "api.md"
_GROUPS: Final = {
    "Data": ("open_dataset", "Dataset", "DatasetConfig", "DATASETS"),
    "Masks": ("parse_mask", "MaskSpec", "MASKS", "KeyedRng"),
    "Stream": ("Stream", "StreamConfig", "Transform", "World", "Batch"),
    "Training": ("find_recipe", "RECIPES", "TrainRecipe", "AdamConfig", "NETWORKS", "OBJECTIVES"),
    "Checkpoints and scores": ("open_checkpoint", "Checkpoint", "load_scorecard", "Scorecard"),
    "Fills": ("open_model", "Model", "fill", "FillArguments"),
    "Errors": ("UsageError", "JobError", "CorruptDataError"),
}
_HEAD: Final = """# Reference

Public names of `lacuna`. They are imported when they are used, so `import lacuna` takes milliseconds.

*Written by `python -m tests.api_page`; edit docstrings, not this page.*
"""


def write_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, names in _GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_describe(name, getattr(lacuna, name)) for name in names]
    return "\n".join(parts).rstrip() + "\n"


def _describe(name: str, value: Any) -> str:
    """The section of a public name."""
    if isinstance(value, dict):
        keys = [key if isinstance(key, str) else key.__name__ for key in value]
        return f"### {name}\n\nA table with the keys " + ", ".join(f"`{key}`" for key in keys) + ".\n"
    is_error = inspect.isclass(value) and issubclass(value, Exception)
    signature = "" if is_error else f"```text\n{name}{_signature(value)}\n```\n\n"
    members = [_describe_member(value, member) for member in _members(value)] if inspect.isclass(value) else []
    listed = "\n" + "".join(members) if any(members) else ""
    return f"### {name}\n\n{signature}{inspect.getdoc(value)}\n{listed}"


def _signature(value: Any) -> str:
    """The signature, a line for each argument where there are many."""
    signature = inspect.signature(value, eval_str=False)
    plain = [p.replace(annotation=_strip_kinds(p.annotation)) for p in signature.parameters.values()]
    signature = signature.replace(parameters=plain)
    line = str(signature).replace("pipelines.", "").replace("numpy.", "")
    if len(line) <= 90:
        return line
    arguments = ",\n".join(f"    {argument}" for argument in map(str, signature.parameters.values()))
    return f"(\n{arguments},\n)"


def _strip_kinds(annotation: Any) -> Any:
    """The type without the kinds of options, which are for the command line."""
    if "Annotated" not in str(annotation):
        return annotation

    def bearer() -> None: ...

    bearer.__annotations__ = {"type": annotation}
    return get_type_hints(bearer)["type"]


def _members(kind: type) -> list[str]:
    """Public methods and properties that the class itself defines; fields of dataclasses are in its signature."""
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    return [name for name in vars(kind) if not name.startswith("_") and name not in known]


def _describe_member(kind: type, name: str) -> str:
    """A line for a method or property."""
    doc = (inspect.getdoc(inspect.getattr_static(kind, name)) or "").split("\n\n")[0].replace("\n", " ")
    return f"* `{name}`: {doc}\n" if doc else ""


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == write_page() else f"{PAGE} is out of date: run python -m tests.api_page")
    PAGE.write_text(write_page())
