"""Lacuna's public names, by which notebooks and programs use it: `import lacuna`, then `lacuna.open_dataset(...)`.

In: a name. Out: the object of the package that defines it. Nothing is imported before it is used, so `import lacuna`
takes milliseconds. Paths below this module may change between versions, these names do not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.world import World
    from jobs.fill import Arguments as FillArguments
    from jobs.fill import run as fill
    from jobs.recipes import RECIPES, find_recipe
    from nets import NETWORKS, OBJECTIVES
    from pipelines.checkpoints import Checkpoint, open_checkpoint
    from pipelines.data.config import DatasetConfig
    from pipelines.data.sources import DATASETS
    from pipelines.evaluation.models import Model, open_model
    from pipelines.evaluation.scorecard import Scorecard, load_scorecard
    from pipelines.keyed_rng import KeyedRng
    from pipelines.manifest import Dataset, open_dataset
    from pipelines.masks import MASKS
    from pipelines.masks.spec import MaskSpec
    from pipelines.masks.spec import parse_mask_spec as parse_mask
    from pipelines.records import Batch, CorruptDataError, JobError, UsageError
    from pipelines.stream.batching import Stream
    from pipelines.stream.config import StreamConfig, Transform
    from pipelines.training.recipe import AdamConfig, TrainRecipe

_HOMES: Final = {
    "AdamConfig": "pipelines.training.recipe:AdamConfig",
    "Batch": "pipelines.records:Batch",
    "Checkpoint": "pipelines.checkpoints:Checkpoint",
    "CorruptDataError": "pipelines.records:CorruptDataError",
    "DATASETS": "pipelines.data.sources:DATASETS",
    "Dataset": "pipelines.manifest:Dataset",
    "DatasetConfig": "pipelines.data.config:DatasetConfig",
    "FillArguments": "jobs.fill:Arguments",
    "JobError": "pipelines.records:JobError",
    "KeyedRng": "pipelines.keyed_rng:KeyedRng",
    "MASKS": "pipelines.masks:MASKS",
    "MaskSpec": "pipelines.masks.spec:MaskSpec",
    "Model": "pipelines.evaluation.models:Model",
    "NETWORKS": "nets:NETWORKS",
    "OBJECTIVES": "nets:OBJECTIVES",
    "RECIPES": "jobs.recipes:RECIPES",
    "Scorecard": "pipelines.evaluation.scorecard:Scorecard",
    "Stream": "pipelines.stream.batching:Stream",
    "StreamConfig": "pipelines.stream.config:StreamConfig",
    "TrainRecipe": "pipelines.training.recipe:TrainRecipe",
    "Transform": "pipelines.stream.config:Transform",
    "UsageError": "pipelines.records:UsageError",
    "World": "infra.world:World",
    "fill": "jobs.fill:run",
    "find_recipe": "jobs.recipes:find_recipe",
    "load_scorecard": "pipelines.evaluation.scorecard:load_scorecard",
    "open_checkpoint": "pipelines.checkpoints:open_checkpoint",
    "open_dataset": "pipelines.manifest:open_dataset",
    "open_model": "pipelines.evaluation.models:open_model",
    "parse_mask": "pipelines.masks.spec:parse_mask_spec",
}
"""Public name -> "module:name" of its definition."""

__all__ = [
    "DATASETS",
    "MASKS",
    "NETWORKS",
    "OBJECTIVES",
    "RECIPES",
    "AdamConfig",
    "Batch",
    "Checkpoint",
    "CorruptDataError",
    "Dataset",
    "DatasetConfig",
    "FillArguments",
    "JobError",
    "KeyedRng",
    "MaskSpec",
    "Model",
    "Scorecard",
    "Stream",
    "StreamConfig",
    "TrainRecipe",
    "Transform",
    "UsageError",
    "World",
    "fill",
    "find_recipe",
    "load_scorecard",
    "open_checkpoint",
    "open_dataset",
    "open_model",
    "parse_mask",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lacuna' has no attribute {name!r}")
    from infra.settings import apply_defaults

    apply_defaults()
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return list(_HOMES)
