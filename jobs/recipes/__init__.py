"""Named, complete training configurations, one file per paper; `RECIPES` holds them all."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Final

from jobs.recipes.deepgin import (
    deepgin_ade20k,
    deepgin_ade20k_segmentation,
    deepgin_celebahq,
    deepgin_demo,
    deepgin_faces,
)
from jobs.recipes.distill import ABLATIONS as DISTILL_ABLATIONS
from jobs.recipes.distill import (
    BACKBONES,
    distill_ablation,
    distill_backbone,
    distill_baseline_faces,
    distill_celeba,
    distill_faces,
    distill_net1_faces,
    distill_paris,
    distill_photos_128,
    distill_places2,
    distill_printed_places2,
)
from jobs.recipes.mhtma import ABLATIONS as MHTMA_ABLATIONS
from jobs.recipes.mhtma import (
    mhtma_ablation,
    mhtma_celebahq,
    mhtma_faces,
    mhtma_paris,
    mhtma_places2,
    mhtma_sketch_faces,
    mhtma_sketch_paris,
)
from jobs.recipes.spn import (
    spl_celeba,
    spl_faces,
    spl_paris,
    spl_places2,
    spn_celeba,
    spn_faces,
    spn_faces_128,
    spn_faces_128_narrow,
    spn_paris,
    spn_places2,
    spn_probabilistic_celebahq,
    spn_probabilistic_faces,
    spn_probabilistic_paris,
)
from pipelines.records import UsageError
from pipelines.training.recipe import TrainRecipe

RECIPES: Final[dict[str, Callable[[], TrainRecipe]]] = {
    "deepgin-ade20k": deepgin_ade20k,
    "deepgin-ade20k-segmentation": deepgin_ade20k_segmentation,
    "deepgin-celebahq": deepgin_celebahq,
    "deepgin-demo": deepgin_demo,
    "deepgin-faces": deepgin_faces,
    "distill-baseline-faces": distill_baseline_faces,
    "distill-celeba": distill_celeba,
    "distill-faces": distill_faces,
    "distill-net1-faces": distill_net1_faces,
    "distill-paris": distill_paris,
    "distill-photos-128": distill_photos_128,
    "distill-places2": distill_places2,
    "distill-printed-places2": distill_printed_places2,
    "mhtma-celebahq": mhtma_celebahq,
    "mhtma-faces": mhtma_faces,
    "mhtma-paris": mhtma_paris,
    "mhtma-places2": mhtma_places2,
    "mhtma-sketch-faces": mhtma_sketch_faces,
    "mhtma-sketch-paris": mhtma_sketch_paris,
    "spl-celeba": spl_celeba,
    "spl-faces": spl_faces,
    "spl-paris": spl_paris,
    "spl-places2": spl_places2,
    "spn-celeba": spn_celeba,
    "spn-faces": spn_faces,
    "spn-faces-128": spn_faces_128,
    "spn-faces-128-narrow": spn_faces_128_narrow,
    "spn-paris": spn_paris,
    "spn-places2": spn_places2,
    "spn-probabilistic-celebahq": spn_probabilistic_celebahq,
    "spn-probabilistic-faces": spn_probabilistic_faces,
    "spn-probabilistic-paris": spn_probabilistic_paris,
    **{f"distill-{name}-places2": partial(distill_ablation, name) for name in DISTILL_ABLATIONS},
    **{f"mhtma-{name}-celebahq": partial(mhtma_ablation, name) for name in MHTMA_ABLATIONS},
    **{f"{name}-places2": partial(distill_backbone, name) for name in BACKBONES},
}


def find_recipe(name: str) -> TrainRecipe:
    """The recipe of a name; raises UsageError naming those that are near it."""
    if name not in RECIPES:
        near = ", ".join(get_close_matches(name.lower(), RECIPES, n=4))
        told = f"near it are {near}; " if near else ""
        raise UsageError(f"unknown recipe {name!r}: {told}`lacuna recipe` lists all {len(RECIPES)}")
    return RECIPES[name]()
