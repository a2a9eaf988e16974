"""`lacuna recipe`: which trainings have a name, and what each of them is."""

from dataclasses import asdict, dataclass
from inspect import getdoc
from typing import Any

import tyro

from jobs.cli import run_as_module
from jobs.plan import told_settings
from jobs.progress import say
from jobs.recipes import RECIPES, find_recipe


@dataclass(frozen=True)
class Arguments:
    """List the recipes, or describe one: its source, the figures to expect, all its settings."""

    name: tyro.conf.Positional[str | None] = None
    """Name of the recipe to describe; if not given, all are listed."""


def run(arguments: Arguments) -> dict[str, Any]:
    """Shows and reports."""
    if arguments.name is None:
        return {"recipes": [_listed(name) for name in sorted(RECIPES)]}
    named, description = find_recipe(arguments.name), _description(arguments.name)
    recipe = {**named.as_json(), "procedure": asdict(named.procedure)}
    say(f"{description}\n")
    told_settings({"recipe": recipe})
    return {"recipe": recipe, "description": description}


def _listed(name: str) -> dict[str, Any]:
    recipe, (what, *_) = RECIPES[name](), _description(name).splitlines()
    say(f"{name:<28} {recipe.stream.size_px:>4} px {recipe.images:>12,} photos  {what}")
    return {"name": name, "size_px": recipe.stream.size_px, "images": recipe.images, "description": what}


def _description(name: str) -> str:
    """What is written at the function that makes the recipe; several names may share one."""
    make = RECIPES[name]
    return getdoc(getattr(make, "func", make)) or ""


if __name__ == "__main__":
    run_as_module("recipe")
