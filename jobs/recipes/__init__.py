"""Named, complete training configurations, one file per paper; `RECIPES` holds them all.

Each public function of these files that takes no argument is a recipe of its own name, with hyphens.
"""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from inspect import isfunction, signature
from types import ModuleType
from typing import Final

from jobs.recipes import deepgin, distill, mhtma, spn
from pipelines.records import UsageError
from pipelines.training.recipe import TrainRecipe


def _list_recipes(module: ModuleType) -> dict[str, Callable[[], TrainRecipe]]:
    """Recipe makers of the module, by the recipe's name."""
    own = {name: f for name, f in vars(module).items() if isfunction(f) and f.__module__ == module.__name__}
    return {n.replace("_", "-"): f for n, f in own.items() if not (n.startswith("_") or signature(f).parameters)}


RECIPES: Final[dict[str, Callable[[], TrainRecipe]]] = {
    **{name: make for module in (deepgin, distill, mhtma, spn) for name, make in _list_recipes(module).items()},
    **{f"distill-{name}-places2": partial(distill.distill_ablation, name) for name in distill.ABLATIONS},
    **{f"mhtma-{name}-celebahq": partial(mhtma.mhtma_ablation, name) for name in mhtma.ABLATIONS},
    **{f"{name}-places2": partial(distill.distill_backbone, name) for name in distill.BACKBONES},
}


def find_recipe(name: str) -> TrainRecipe:
    """Recipe of a name; raises UsageError with the names nearest to it."""
    if name not in RECIPES:
        near = ", ".join(get_close_matches(name.lower(), RECIPES, n=4))
        hint = f"nearest are {near}; " if near else ""
        raise UsageError(f"unknown recipe {name!r}: {hint}`lacuna recipe` lists all {len(RECIPES)}")
    return RECIPES[name]()
