"""Named, complete training configurations, one file per paper; `RECIPES` holds them all."""

from collections.abc import Callable

from jobs.recipes.deepgin import deepgin_celebahq, deepgin_demo, deepgin_faces
from pipelines.training.recipe import TrainRecipe

RECIPES: dict[str, Callable[[], TrainRecipe]] = {
    "deepgin-celebahq": deepgin_celebahq,
    "deepgin-demo": deepgin_demo,
    "deepgin-faces": deepgin_faces,
}
