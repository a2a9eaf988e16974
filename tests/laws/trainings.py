"""Small trainings of every paper as processes of their own, to be killed: two workers, many checkpoints.

`python -m tests.laws.trainings NAME --data DATA …` is `lacuna train` of a recipe that only tests have.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from infra import storage
from infra.settings import PROJECT_ROOT
from jobs.recipes import RECIPES
from pipelines.training.recipe import AdamConfig, TrainRecipe
from tests.laws.killing import Lacuna, end
from tests.making import train_recipe
from tests.nets.configs import CONFIGS
from tests.nets.objectives import objective

OBJECTIVES: Final = {
    "deepgin": CONFIGS["deepgin"],
    "spn": CONFIGS["spn"],
    "spn-probabilistic": replace(CONFIGS["spn-probabilistic"], perceptual_weight=0.0, diversity_weight=0.0),
    "mhtma": replace(CONFIGS["mhtma"], perceptual_weight=0.0),
    "distill-net8": CONFIGS["distill-net8"],
}
"""Of every paper, without losses that want weights of others."""
MODELS: Final = tuple(OBJECTIVES)
IMAGES: Final = 160
"""Photos of a whole training, in steps of 4, with a checkpoint every 16."""
LONG: Final = "deepgin-long"
"""One that goes on for as long as a test may wait, with a checkpoint every 160."""
EXPLOSIVE: Final = "deepgin-explosive"
"""One whose loss is infinite as soon as its critic has a say, at 16 photos."""


def recipe_of(name: str) -> TrainRecipe:
    """The smallest training of an objective, long enough to be killed in."""
    if name == LONG:
        short = recipe_of("deepgin")
        return replace(
            short,
            name=LONG,
            optimizers={network: AdamConfig(1e-7) for network in short.optimizers},  # or it would not end as numbers
            images=1000 * IMAGES,
            checkpoint_images=IMAGES,
            metric_images=16,
        )
    if name == EXPLOSIVE:
        short = recipe_of("deepgin")
        return replace(short, name=EXPLOSIVE, objective=replace(short.objective, adversarial_weight=float("inf")))
    return train_recipe(
        name=name,
        objective=OBJECTIVES[name],
        optimizers={network: AdamConfig(1e-3) for network in objective(name).networks},
        images=IMAGES,
        constant_images=IMAGES // 2,
        checkpoint_images=16,
    )


def database(folder: Path) -> str:
    """The URI of the MLflow database of trainings whose things lie there."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def start_training(
    name: str, data: str, out: Path | str, *options: str, beside: Path | None = None, **environment: str
) -> Lacuna:
    """`lacuna train` on two workers, in a group of its own; RAY_ADDRESS in the environment names a cluster.

    Its MLflow database and its stderr go into the folder `beside`; if not given, into the one that `out` lies in.
    """
    mine = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    folder = beside or Path(out).parent
    words = [name, "--data", data, "--out", str(out), *(options or ("--workers", "2"))]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.laws.trainings", *words],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("a"),
        text=True,
        start_new_session=True,
        env=mine | {"MLFLOW_TRACKING_URI": database(folder)} | environment,
    )


def finish_training(
    name: str, data: str, out: Path | str, *options: str, beside: Path | None = None, **environment: str
) -> None:
    """The same to its end, which must be a good one."""
    code, report = end(start_training(name, data, out, *options, beside=beside, **environment))
    assert code == 0, report


def newest_point(out: Path | str) -> dict[str, Any]:
    """What the training last said; nothing before it does."""
    uri = storage.join(str(out), "progress.json")
    return dict(json.loads(storage.read_bytes(uri))) if storage.exists(uri) else {"images_seen": 0, "values": {}}


def clock(out: Path | str) -> int:
    """Where it then was."""
    return int(newest_point(out)["images_seen"])


def num_workers(out: Path) -> int:
    """How many ranks it then had."""
    return int(newest_point(out)["values"].get("num_workers", 0))


def main() -> int:
    """The command, with the recipes of this file."""
    from jobs.cli import run_verb

    RECIPES[sys.argv[1]] = lambda: recipe_of(sys.argv[1])
    return run_verb("train", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
