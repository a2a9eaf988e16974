"""Things that cost seconds to make and that many tests look at: a Ray cluster, a dataset, a trained run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from infra.cluster import connect_ray, set_own_token
from infra.settings import apply_defaults
from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.manifest import Dataset
from pipelines.training.run import TrainRun, claim_run
from pipelines.training.worker import run_rank
from tests.making import photo_folder, shard_recipe, train_recipe

apply_defaults()
torch.set_num_threads(1)
set_own_token()  # here, before any test module imports Ray
# No time limits: machines are busy. A failure prints what repeats it.
settings.register_profile("lacuna", deadline=None, print_blob=True)
settings.load_profile("lacuna")


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of this process, shared by all tests that need one."""
    with connect_ray(2):
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 photos."""
    return photo_folder(tmp_path_factory.mktemp("photos"), 60)


@pytest.fixture(scope="session")
def dataset(photos: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """The photos as a committed dataset; tests must not change it."""
    out = tmp_path_factory.mktemp("dataset") / "data"
    return build_dataset(Plan(str(photos), str(out), shard_recipe(), seed=0), silent)


@pytest.fixture(scope="session")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainRun:
    """A finished run of the smallest recipe, trained in this process; tests must not change it."""
    out, recipe = str(tmp_path_factory.mktemp("run") / "run"), train_recipe()
    run = TrainRun(
        recipe=recipe,
        data=(dataset.uri,),
        out=out,
        until_images=recipe.images,
        run_id=claim_run(recipe, (dataset,), out),
        tracking_uri="",
    )
    run_rank(run, World(), silent)
    return run
