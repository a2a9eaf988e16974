"""Law 3 for checkpoints: no damage of any byte goes unnoticed, the one before is taken, and none is started over.

LACUNA_SOAK_CHECKPOINT_DAMAGES says how many random damages are tried; 60 by default.
"""

import logging
import os
import random
from pathlib import Path
from typing import Final

import pytest

from infra.world import World
from pipelines.checkpoints import Checkpoint, find_latest_checkpoint
from pipelines.records import CorruptDataError
from pipelines.training.run import TrainRun
from pipelines.training.worker import run_rank
from tests.laws.test_damage_is_named import HARMS
from tests.laws.test_training_resumes import assert_same_end, elsewhere

NUM_DAMAGES: Final = int(os.environ.get("LACUNA_SOAK_CHECKPOINT_DAMAGES", "60"))


def silent(*_: object) -> None:
    """Reports that nobody reads."""


@pytest.fixture(scope="module")
def run(trained: TrainRun, tmp_path_factory: pytest.TempPathFactory) -> TrainRun:
    """A run with two checkpoints."""
    run = elsewhere(trained, tmp_path_factory.mktemp("damaged"))
    run_rank(run, World(), silent)
    return run


def files_at(run: TrainRun, clock: int) -> list[Path]:
    return sorted((Path(run.out) / "checkpoints" / f"{clock:012d}").iterdir())


def whole(checkpoint: Checkpoint) -> bytes:
    """All bytes that the checkpoint gives."""
    names = sorted(checkpoint.state["files"])
    return b"".join(checkpoint.read(name.removesuffix(".safetensors")) for name in names)


def test_damage_of_the_newest_is_noticed_and_the_one_before_is_taken(
    run: TrainRun, caplog: pytest.LogCaptureFixture
) -> None:
    rng, undamaged = random.Random(0), find_latest_checkpoint(run.out)
    assert undamaged is not None
    assert undamaged.images_seen == 32
    expected, noticed = whole(undamaged), 0
    for _ in range(NUM_DAMAGES):
        path, harm = rng.choice(files_at(run, 32)), rng.choice(HARMS)
        data = path.read_bytes()
        path.write_bytes(harm(data, rng))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = find_latest_checkpoint(run.out)
        assert found is not None
        if path.read_bytes() == data:  # zeros over zeros
            assert (found.images_seen, whole(found)) == (32, expected)
        else:
            assert found.images_seen == 24, (path.name, harm)
            assert "checkpoint refused" in caplog.text
            noticed += 1
        path.write_bytes(data)
    assert noticed > NUM_DAMAGES // 2


def test_where_both_are_damaged_nothing_starts_over(run: TrainRun) -> None:
    rng = random.Random(1)
    for _ in range(max(3, NUM_DAMAGES // 20)):
        paths = [rng.choice(files_at(run, clock)) for clock in (24, 32)]
        before = [path.read_bytes() for path in paths]
        for path, data in zip(paths, before, strict=True):
            path.write_bytes(HARMS[2](data, rng))
        with pytest.raises(CorruptDataError, match="none of the 2 checkpoints"):
            run_rank(run, World(), silent)
        for path, data in zip(paths, before, strict=True):
            path.write_bytes(data)


def test_a_training_that_falls_back_ends_as_the_undisturbed_one(run: TrainRun, trained: TrainRun) -> None:
    path = files_at(run, 32)[0]
    path.write_bytes(HARMS[2](path.read_bytes(), random.Random(2)))
    run_rank(run, World(), silent)
    assert_same_end(run, trained)
