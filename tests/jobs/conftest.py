"""A real Ray head behind a relay, shared by all tests of `lacuna submit`, and a dataset that a job has built on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.planted import PLANTED, Cluster, plant_tree
from tests.ray_head import ray_head
from tests.relay import relay

SHARD = ("--source", "folder", "--holdout", "0.2", "--shard-bytes", "10000")
MASKS = ("--mask-size-px", "32", "--mask-canvas-px", "64")


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head whose nodes have a file of secrets, and the tree of a user."""
    tree = plant_tree(tmp_path_factory.mktemp("tree"))
    login = tmp_path_factory.mktemp("node") / "secrets.env"
    login.touch(mode=0o600)
    login.write_text(f"MLFLOW_TRACKING_USERNAME=lacuna\nMLFLOW_TRACKING_PASSWORD={PLANTED['NODE']}\n")
    with ray_head({"LACUNA_SECRETS": str(login)}) as head, relay(head.address) as between:
        yield Cluster(head, between, tree)


@pytest.fixture(scope="package")
def done(
    cluster: Cluster, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], tuple[int, dict[str, Any], str]]:
    """A dataset built by a job: the words of its verb, and how the submission ended."""
    out = tmp_path_factory.mktemp("job") / "data"
    words = ("shard", *SHARD, *MASKS, "--root", str(photos), "--out", str(out))
    return words, cluster.submit(*words)
