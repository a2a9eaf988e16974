"""A registered version fills as its checkpoint does, byte for byte: any size, with a sketch, a map, several fills."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.tracking import Tracking, Version
from nets.procedures.noise import seeded_keys
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.models import Model, open_model
from pipelines.evaluation.protocol import sketch_photos
from pipelines.evaluation.scorecard import Scorecard
from pipelines.records import UsageError
from pipelines.registry.model import read_inputs, refuse_other_number
from pipelines.registry.package import register
from pipelines.training.run import TrainRun
from tests.making import MAPPED, PROBABILISTIC, SKETCHED, photo, save_network

SIZES = [(32, 32), (64, 32), (83, 117), (21, 50), (128, 96)]
SEED, NUM_FILLS = 5, 3


def photos(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two photos with holes in different places."""
    images = np.stack([np.array(photo(number, height, width)) for number in (7, 300)])
    masks = np.zeros(images.shape[:3], np.uint8)
    masks[0, height // 4 : height // 2, width // 3 : width // 2] = 1
    masks[1, : height // 3, width // 2 :] = 1
    return images, masks


def registered(config: Any, trained: TrainRun, card: Scorecard, tracking: Tracking, out: Path) -> tuple[str, Version]:
    """The URI of a checkpoint of such a network, and a version of it; its scores are those of other weights."""
    state: dict[str, Any] = {
        "recipe": trained.recipe.as_json(),
        "datasets": [],
        "run_id": trained.run_id,
        "code_revision": "test",
    }
    checkpoint: Checkpoint = save_network(config, out, **state)
    model = {"model": checkpoint.uri, "weights_sha256": checkpoint.file_sha256("generator")}
    return checkpoint.uri, register(checkpoint, replace(card, model=model), out.name, tracking)


def assert_same_fills(
    one: Model, other: Model, beside: Mapping[str, Any], size: tuple[int, int], noise: NDArray[np.uint64] | None = None
) -> None:
    images, masks = photos(*size)
    fills = [model.fill(images, masks, beside, noise) for model in (one, other)]
    assert np.array_equal(fills[0], fills[1])
    assert not np.array_equal(fills[0], images)


@pytest.mark.slow
def test_a_version_of_a_sketched_network_fills_as_its_checkpoint(
    trained: TrainRun, card: Scorecard, tracking: Tracking, tmp_path: Path
) -> None:
    uri, version = registered(SKETCHED, trained, card, tracking, tmp_path / "sketched")
    verb, stored, pyfunc = open_model(uri), open_model(version.uri), mlflow.pyfunc.load_model(version.uri)
    assert stored.takes == verb.takes == {"sketch"}
    assert stored.procedure == verb.procedure == "local"
    for size in SIZES:
        images, masks = photos(*size)
        sketch = sketch_photos(images)
        assert_same_fills(verb, stored, {}, size)
        assert_same_fills(verb, stored, {"sketch": sketch}, size)
        given = {"image": images, "mask": masks, "sketch": sketch[:, 0].numpy().astype(np.uint8)}
        assert np.array_equal(pyfunc.predict(given), verb.fill(images, masks, {"sketch": sketch}))
    drawn, plain = verb.fill(images, masks, {"sketch": torch.ones_like(sketch)}), verb.fill(images, masks)
    assert not np.array_equal(drawn, plain)
    whole = open_model(uri, procedure="polyphase"), open_model(version.uri, procedure="polyphase")
    assert_same_fills(*whole, {"sketch": sketch}, size)
    assert not np.array_equal(whole[1].fill(images, masks), plain)


@pytest.mark.slow
def test_a_version_of_a_probabilistic_network_gives_the_fills_of_a_seed_photo_by_photo(
    trained: TrainRun, card: Scorecard, tracking: Tracking, tmp_path: Path
) -> None:
    uri, version = registered(PROBABILISTIC, trained, card, tracking, tmp_path / "probabilistic")
    verb, stored, pyfunc = open_model(uri), open_model(version.uri), mlflow.pyfunc.load_model(version.uri)
    assert stored.takes == verb.takes == {"noise"}
    for size in SIZES:
        images, masks = photos(*size)
        keys = [seeded_keys(SEED, number, len(images)) for number in range(NUM_FILLS)]
        assert_same_fills(verb, stored, {}, size)
        assert_same_fills(verb, stored, {}, size, keys[1])
        fills = pyfunc.predict({"image": images, "mask": masks}, params={"seed": SEED, "num_fills": NUM_FILLS})
        assert fills.shape == (NUM_FILLS * len(images), *images.shape[1:])
        each = [verb.fill(images, masks, noise=key) for key in keys]
        for number, fill in enumerate(fills):
            assert np.array_equal(fill, each[number % NUM_FILLS][number // NUM_FILLS])
        assert np.array_equal(pyfunc.predict({"image": images, "mask": masks}), verb.fill(images, masks))
    assert len({fill.tobytes() for fill in fills}) == len(fills)


@pytest.mark.slow
def test_a_version_of_track_2_fills_as_its_checkpoint(
    trained: TrainRun, card: Scorecard, tracking: Tracking, tmp_path: Path
) -> None:
    uri, version = registered(MAPPED, trained, card, tracking, tmp_path / "mapped")
    verb, stored = open_model(uri), open_model(version.uri)
    assert stored.takes == verb.takes == {"segmentation"}
    images, _ = photos(50, 70)
    classes: Tensor = torch.from_numpy(images[::-1].copy()).permute(0, 3, 1, 2).float() / 255
    assert_same_fills(verb, stored, {"segmentation": classes}, (50, 70))
    with pytest.raises(UsageError, match="telea has no procedure, 'local' was given"):
        open_model("telea", procedure="local")


IMAGE, MASK = np.zeros((2, 9, 7, 3), np.uint8), np.zeros((2, 9, 7), np.uint8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": IMAGE}, "input 'mask' is missing: give image, mask"),
        (
            {"image": IMAGE, "mask": MASK, "sketch": MASK},
            "unknown input 'sketch': give image, mask, noise, segmentation",
        ),
        ({"image": IMAGE / 255, "mask": MASK}, "image is of float64: give uint8"),
        ({"image": IMAGE.astype(int) - 1, "mask": MASK}, "image is of int64: give uint8"),
        ({"image": IMAGE, "mask": MASK[:1]}, r"image \(2, 9, 7, 3\) and mask \(1, 9, 7\) do not belong together"),
        ({"image": IMAGE[..., :2], "mask": MASK}, r"image \(2, 9, 7, 2\) do not belong together: give NHW3"),
        ({"image": IMAGE[0], "mask": MASK}, r"image \(9, 7, 3\) do not belong together: give NHW3"),
        ({"image": IMAGE, "mask": MASK, "segmentation": MASK}, r"segmentation \(2, 9, 7\) do not belong together"),
        ({"image": IMAGE, "mask": MASK, "noise": np.zeros((2, 3), np.uint64)}, r"noise \(2, 3\) do not .*N2"),
        (
            {"image": IMAGE, "mask": MASK + np.uint8(2)},
            "the mask has a value of 2: use 1 for hole pixels and 0 for other",
        ),
    ],
)
def test_a_version_refuses_what_it_cannot_take(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_inputs(given, {"segmentation", "noise"})


def test_whole_numbers_of_json_are_taken_as_levels() -> None:
    given = read_inputs({"image": IMAGE.astype(np.int64), "mask": MASK.astype(np.int32)}, set())
    assert {array.dtype for array in given.values()} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    ("num_fills", "takes", "is_keyed", "words"),
    [
        (0, {"noise"}, False, "num_fills is 0: give 1 or more"),
        (2, set(), False, "num_fills is 2: this network gives one fill per photo"),
        (2, {"noise"}, True, "num_fills is 2 beside keys of noise"),
    ],
)
def test_numbers_of_fills_that_cannot_be_are_refused(
    num_fills: int, takes: set[str], is_keyed: bool, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        refuse_other_number(num_fills, takes, is_keyed)
