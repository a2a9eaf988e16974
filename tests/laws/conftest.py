"""The photos whose builds are killed, the files of an undisturbed one, a cluster of two nodes, and photos to stream."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.settings import PROJECT_ROOT
from pipelines.manifest import Dataset
from tests.laws.killing import OPTIONS, TwoNodes, two_nodes
from tests.laws.streaming import noise_dataset
from tests.making import files_of, photo_folder

NUM_PHOTOS = 400
ON_ONE_CORE = """
import ray, sys
from jobs.cli import main
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
sys.exit(main())
"""


@pytest.fixture(scope="session")
def photos_of_the_law(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough photos, in enough shards, that a kill finds the build at work."""
    return photo_folder(tmp_path_factory.mktemp("killed"), NUM_PHOTOS)


@pytest.fixture(scope="session")
def unharmed(photos_of_the_law: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build by one worker that nobody disturbed."""
    out = tmp_path_factory.mktemp("unharmed") / "data"
    words = ["shard", *OPTIONS, "--root", str(photos_of_the_law), "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE, *words], check=True, capture_output=True, env=environment, cwd=PROJECT_ROOT
    )
    return files_of(out)


@pytest.fixture(scope="session")
def nodes() -> Iterator[TwoNodes]:
    """A cluster of two nodes, of which none may be killed."""
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Sixty photos of noise on the local disk, for streams."""
    return noise_dataset(tmp_path_factory.mktemp("noise"), 60)
