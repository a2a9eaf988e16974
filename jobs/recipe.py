"""`lacuna recipe`: lists the named trainings, or describes one of them."""

from dataclasses import asdict, dataclass
from inspect import getdoc
from typing import Any, Final

import tyro

from infra.tracking_values import flatten
from jobs.cli import run_as_module
from jobs.options import Name
from jobs.progress import say
from jobs.recipes import RECIPES, find_recipe

_LARGE: Final = 9999
"""Numbers above have commas."""


@dataclass(frozen=True)
class Arguments:
    """List the recipes, or describe one: its source, the figures to expect, all its settings."""

    name: tyro.conf.Positional[Name | None] = None
    """Name of the recipe to describe; if not given, all are listed."""


def check(arguments: Arguments) -> None:
    """Raise UsageError for an unknown recipe."""
    if arguments.name is not None:
        find_recipe(arguments.name)


def run(arguments: Arguments) -> dict[str, Any]:
    """Show and report recipes."""
    if arguments.name is None:
        return {"recipes": [_list_recipe(name) for name in sorted(RECIPES)]}
    named, description = find_recipe(arguments.name), _describe(arguments.name)
    recipe = {**named.as_json(), "procedure": asdict(named.procedure)}
    say(f"{description}\n")
    show_settings({"recipe": recipe})
    return {"recipe": recipe, "description": description}


def _list_recipe(name: str) -> dict[str, Any]:
    recipe, (first_line, *_) = RECIPES[name](), _describe(name).splitlines()
    say(f"{name:<28} {recipe.stream.size_px:>4} px {recipe.images:>12,} photos  {first_line}")
    return {"name": name, "size_px": recipe.stream.size_px, "images": recipe.images, "description": first_line}


def _describe(name: str) -> str:
    """Docstring of the function that makes the recipe; several names may share one."""
    make = RECIPES[name]
    return getdoc(getattr(make, "func", make)) or ""


def show_settings(settings: dict[str, Any]) -> None:
    """Show settings line by line, nested ones by their paths."""
    for name, value in flatten(settings).items():
        say(f"{name.replace('_', ' '):<46} {_format_value(value)}")


def _format_value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) > _LARGE else str(value)


if __name__ == "__main__":
    run_as_module("recipe")
