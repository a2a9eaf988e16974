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
from PIL import Image
from torch import Tensor

from infra.tracking import Tracking, Version
from jobs.fill import Arguments, run
from nets.procedures.noise import make_noise_keys
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.guides import sketch_photos
from pipelines.evaluation.models import Model, open_model
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


def register_model(
    config: Any, trained: TrainRun, card: Scorecard, tracking: Tracking, out: Path
) -> tuple[str, Version]:
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


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint, card: Scorecard, tracking: Tracking) -> tuple[str, Version]:
    """A network of photo and mask alone: the URI of its checkpoint, and its version."""
    return checkpoint.uri, register(checkpoint, card, "plain", tracking)


@pytest.fixture(scope="module")
def sketched(
    trained: TrainRun, card: Scorecard, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Version]:
    """A sketch-guided network."""
    return register_model(SKETCHED, trained, card, tracking, tmp_path_factory.mktemp("runs") / "sketched")


@pytest.fixture(scope="module")
def probabilistic(
    trained: TrainRun, card: Scorecard, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Version]:
    """A network of which several fills can be drawn."""
    return register_model(PROBABILISTIC, trained, card, tracking, tmp_path_factory.mktemp("runs") / "probabilistic")


def assert_same_fills(
    one: Model, other: Model, guides: Mapping[str, Any], size: tuple[int, int], noise: NDArray[np.uint64] | None = None
) -> None:
    images, masks = photos(*size)
    fills = [model.fill(images, masks, guides, noise) for model in (one, other)]
    assert np.array_equal(fills[0], fills[1])
    assert not np.array_equal(fills[0], images)


@pytest.mark.slow
def test_a_version_of_a_sketched_network_fills_as_its_checkpoint(sketched: tuple[str, Version]) -> None:
    uri, version = sketched
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
def test_a_probabilistic_version_gives_the_fills_of_a_seed_photo_by_photo(
    probabilistic: tuple[str, Version],
) -> None:
    uri, version = probabilistic
    verb, stored, pyfunc = open_model(uri), open_model(version.uri), mlflow.pyfunc.load_model(version.uri)
    assert stored.takes == verb.takes == {"noise"}
    for size in SIZES:
        images, masks = photos(*size)
        keys = [make_noise_keys(SEED, number, len(images)) for number in range(NUM_FILLS)]
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
    uri, version = register_model(MAPPED, trained, card, tracking, tmp_path / "mapped")
    verb, stored = open_model(uri), open_model(version.uri)
    assert stored.takes == verb.takes == {"segmentation"}
    images, _ = photos(50, 70)
    classes: Tensor = torch.from_numpy(images[::-1].copy()).permute(0, 3, 1, 2).float() / 255
    assert_same_fills(verb, stored, {"segmentation": classes}, (50, 70))
    with pytest.raises(UsageError, match="telea has no procedure, 'local' was given"):
        open_model("telea", procedure="local")


def write_files(folder: Path) -> None:
    """Photos of all sizes, their masks and, across the holes, black strokes on white, in folders for the verb."""
    for height, width in SIZES:
        images, masks = photos(height, width)
        strokes = np.full((height, width), 255, np.uint8)
        strokes[height // 3, width // 4 :] = 0
        for part, levels in (("photos", images[0]), ("masks", masks[0] * np.uint8(255)), ("sketches", strokes)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(folder / part / f"{width}x{height}.png")


def run_verb(folder: Path, model: str, **options: Any) -> list[Path]:
    """`lacuna fill` over the folders of `write_files`; its files in order of their names."""
    out = folder / model.strip("/").replace("/", "-").replace(":", "")
    words = {"image": str(folder / "photos"), "mask": str(folder / "masks"), "out": f"{out}/"}
    report = run(Arguments(**{"model": model, **words, **options}))
    assert report["num_filled"] == len(SIZES)
    return sorted(out.glob("*.png"))


def read_levels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def predict_from_files(folder: Path, model: Any, sketches: bool, **params: int) -> dict[str, NDArray[np.uint8]]:
    """What a version makes of the same files, photo by photo, by the name that the verb gives its file."""
    made: dict[str, NDArray[np.uint8]] = {}
    for path in sorted((folder / "photos").iterdir()):
        given = {"image": read_levels(path), "mask": (read_levels(folder / "masks" / path.name) > 0).astype(np.uint8)}
        if sketches:
            given["sketch"] = (read_levels(folder / "sketches" / path.name) == 0).astype(np.uint8)
        fills = model.predict({name: levels[None] for name, levels in given.items()}, params=params)
        ends = [""] if len(fills) == 1 else [f"_{number + 1}" for number in range(len(fills))]
        made |= {f"{path.stem}{end}.png": levels for end, levels in zip(ends, fills, strict=True)}
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("plain", {}),
        ("sketched", {"sketch": "sketches"}),
        ("probabilistic", {"num_fills": NUM_FILLS, "seed": SEED}),
    ],
)
def test_the_verb_writes_what_a_registered_version_predicts(
    network: str, options: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri, version = request.getfixturevalue(network)
    write_files(tmp_path)
    params = {name: value for name, value in options.items() if name != "sketch"}
    named = options | ({"sketch": str(tmp_path / "sketches")} if "sketch" in options else {})
    model = mlflow.pyfunc.load_model(version.uri)
    predicted = predict_from_files(tmp_path, model, "sketch" in options, **params)
    assert len({levels.tobytes() for levels in predicted.values()}) == len(SIZES) * options.get("num_fills", 1)
    for source in (uri, version.uri):
        files = run_verb(tmp_path, source, **named)
        assert [path.name for path in files] == sorted(predicted)
        for path in files:
            assert np.array_equal(read_levels(path), predicted[path.name]), f"{source}: {path.name}"
    if "sketch" in options:
        without = predict_from_files(tmp_path, model, sketches=False)
        assert all(not np.array_equal(without[name], levels) for name, levels in predicted.items())


IMAGE, MASK = np.zeros((2, 9, 7, 3), np.uint8), np.zeros((2, 9, 7), np.uint8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image": IMAGE}, "input 'mask' is missing: give image, mask"),
        (
            {"image": IMAGE, "mask": MASK, "sketch": MASK},
            "unknown input 'sketch': give image, mask, noise, segmentation",
        ),
        ({"image": IMAGE / 255, "mask": MASK}, "image has type float64: give uint8"),
        ({"image": IMAGE.astype(int) - 1, "mask": MASK}, "image has type int64: give uint8"),
        ({"image": IMAGE, "mask": MASK[:1]}, r"image \(2, 9, 7, 3\) and mask \(1, 9, 7\) do not fit together"),
        ({"image": IMAGE[..., :2], "mask": MASK}, r"image \(2, 9, 7, 2\) do not fit together: give NHW3"),
        ({"image": IMAGE[0], "mask": MASK}, r"image \(9, 7, 3\) do not fit together: give NHW3"),
        ({"image": IMAGE, "mask": MASK, "segmentation": MASK}, r"segmentation \(2, 9, 7\) do not fit together"),
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
        (2, {"noise"}, True, "num_fills is 2, but keys of noise"),
    ],
)
def test_numbers_of_fills_that_cannot_be_are_refused(
    num_fills: int, takes: set[str], is_keyed: bool, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        refuse_other_number(num_fills, takes, is_keyed)
