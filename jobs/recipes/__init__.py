"""Named, complete training configurations, one file per paper; `RECIPES` holds them all."""

from collections.abc import Callable
from typing import Final

from jobs.recipes.deepgin import deepgin_celebahq, deepgin_demo, deepgin_faces
from jobs.recipes.distill import (
    distill_baseline_faces,
    distill_celeba,
    distill_faces,
    distill_net1_faces,
    distill_paris,
    distill_places2,
)
from jobs.recipes.mhtma import (
    mhtma_celebahq,
    mhtma_faces,
    mhtma_paris,
    mhtma_places2,
    mhtma_sketch_faces,
    mhtma_sketch_paris,
)
from pipelines.records import Refused
from pipelines.training.recipe import TrainRecipe

RECIPES: Final[dict[str, Callable[[], TrainRecipe]]] = {
    "deepgin-celebahq": deepgin_celebahq,
    "deepgin-demo": deepgin_demo,
    "deepgin-faces": deepgin_faces,
    "distill-baseline-faces": distill_baseline_faces,
    "distill-celeba": distill_celeba,
    "distill-faces": distill_faces,
    "distill-net1-faces": distill_net1_faces,
    "distill-paris": distill_paris,
    "distill-places2": distill_places2,
    "mhtma-celebahq": mhtma_celebahq,
    "mhtma-faces": mhtma_faces,
    "mhtma-paris": mhtma_paris,
    "mhtma-places2": mhtma_places2,
    "mhtma-sketch-faces": mhtma_sketch_faces,
    "mhtma-sketch-paris": mhtma_sketch_paris,
}


def recipe_of(name: str) -> TrainRecipe:
    """The recipe of a name; raises Refused naming those there are."""
    if name not in RECIPES:
        raise Refused(f"unknown recipe {name!r}: known are {', '.join(RECIPES)}")
    return RECIPES[name]()
