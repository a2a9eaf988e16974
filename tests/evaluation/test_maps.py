"""Networks of track 2 are scored with the maps that the dataset stores, and not at all where one is missing."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infra.world import World
from nets import build_network
from pipelines.checkpoints import open_checkpoint
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.evaluation.comparison import compare
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.metrics import METRICS, measure
from pipelines.evaluation.models import open_model
from pipelines.evaluation.pairs import Pairs, count_chunks, read_chunk, read_pairs
from pipelines.evaluation.protocol import EvalProtocol
from pipelines.evaluation.scorecard import Scorecard
from pipelines.manifest import Dataset
from pipelines.records import UsageError
from pipelines.stream.reading import ShardReader
from pipelines.training.validation import open_validator
from tests.making import MAPPED, save_network, scene_folder, shard_recipe, train_recipe

pytestmark = pytest.mark.thorough


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def build_scenes(root: Path, out: Path, **changes: Any) -> Dataset:
    """Scenes with their maps, some held out."""
    scenes = {"source": "ade20k-aim", "splits": "ade20k", "planes": ("seg",), "holdout": 0.0, "mask_pixels": True}
    return build_dataset(Plan(str(root), str(out), shard_recipe(**scenes | changes), seed=0), silent)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Sixteen photos for validation, each with a map of colors of its own, one of them in gray."""
    root = scene_folder(tmp_path_factory.mktemp("scenes"), 32)
    gray = next(root.rglob("ADE_val_*_seg.png"))
    Image.open(gray).convert("L").save(gray)
    return build_scenes(root, tmp_path_factory.mktemp("scene-data") / "data")


PROTOCOL = EvalProtocol()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network of track 2 whose maps matter."""
    return save_network(MAPPED, tmp_path_factory.mktemp("mapped") / "run", factor=8).uri


def score(
    model: str, dataset: Dataset, out: Path, protocol: EvalProtocol = PROTOCOL, resize: str = "squash"
) -> Scorecard:
    return evaluate(model, dataset.uri, str(out), silent, replace(protocol, resize=resize))


def read_stored_maps(dataset: Dataset) -> dict[str, np.ndarray]:
    """The maps HxWx3 by key, as Pillow reads what the shards store."""
    reader = ShardReader((dataset,), "val")
    places = [(shard, n) for shard, count in enumerate(reader.counts) for n in range(count)]
    samples = [reader.read(*place) for place in places]
    return {s.key: np.asarray(Image.open(io.BytesIO(s.planes["seg"])).convert("RGB")) for s in samples}


def assert_row_is_of_the_map(card: Scorecard, model: str, pairs: Pairs, maps: np.ndarray) -> None:
    """Each pair's scores are those of its fill with the map HxWx3, and of no fill with a black one."""
    fills = [open_model(model).fill(pairs.images, pairs.masks, {"segmentation": m}) for m in _as_taken(maps, pairs)]
    rows = {(row["key"], row["recipe"]): row for row in card.rows}
    for n, pair in enumerate(zip(pairs.keys, pairs.specs, strict=True)):
        with_map, black = (measure(pairs.images[n], pairs.masks[n], fill[n]) for fill in fills)
        assert {name: rows[pair][name] for name in METRICS} == pytest.approx(with_map, rel=1e-5)
        assert with_map["l1_hole"] != pytest.approx(black["l1_hole"], rel=1e-4)


def _as_taken(maps: np.ndarray, pairs: Pairs) -> list[torch.Tensor]:
    given = torch.from_numpy(maps.copy()).permute(2, 0, 1)[None].float().expand(len(pairs.keys), -1, -1, -1) / 255
    return [given, torch.zeros_like(given)]


def test_a_photo_of_its_own_size_is_filled_with_its_own_map(scenes: Dataset, model: str, tmp_path: Path) -> None:
    card = score(model, scenes, tmp_path / "own", EvalProtocol(size="own"))
    maps = read_stored_maps(scenes)
    chunks = range(count_chunks(scenes, "val"))
    for pairs in (pairs for chunk in chunks for pairs in read_pairs(scenes.uri, "val", "squash", "own", chunk)):
        assert_row_is_of_the_map(card, model, pairs, maps[pairs.keys[0]])


def test_a_map_is_cut_as_its_photo_is_and_gets_no_new_value(scenes: Dataset) -> None:
    maps = read_stored_maps(scenes)
    squares = read_chunk(scenes.uri, "val", "centre-square", 0, with_maps=True)
    assert squares.maps is not None
    for key, found in zip(squares.keys, squares.maps, strict=True):
        middle = Image.fromarray(maps[key]).crop((0, 4, 40, 44))  # of 40x48 px
        expected = np.asarray(middle.resize((32, 32), Image.Resampling.NEAREST))
        assert (found == expected).mean() > 0.9  # two rules of which of two pixels is the nearer one
        assert {*map(tuple, found.reshape(-1, 3))} <= {*map(tuple, maps[key].reshape(-1, 3))}


def test_passports_say_whether_maps_were_given(scenes: Dataset, model: str, tmp_path: Path) -> None:
    card, telea = score(model, scenes, tmp_path / "mapped"), score("telea", scenes, tmp_path / "telea")
    assert card.passport["asking"] == EvalProtocol(segmentation=True).as_json()
    assert "segmentation" not in telea.passport["asking"]
    assert card.passport["pairs_sha256"] == telea.passport["pairs_sha256"]
    assert score(model, scenes, tmp_path / "mapped") == card
    with pytest.raises(UsageError, match=r"asking\.segmentation is True on one side and None on the other"):
        compare(card, telea, "psnr_hole")


def test_photos_without_maps_are_refused_before_work(
    scenes: Dataset, model: str, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"16 of 16 val photos of .* have no segmentation map, .*--planes seg"):
        score(model, dataset, tmp_path / "none")
    root = scene_folder(tmp_path / "in", 8)
    next(root.rglob("ADE_val_*_seg.png")).unlink()
    lone = build_scenes(root, tmp_path / "data")
    with pytest.raises(
        UsageError, match=r"1 of \d+ val photos of .* have no segmentation map, such as \S*ADE_val_\d+:"
    ):
        score(model, lone, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_training_watches_its_held_out_photos_with_their_maps(
    scenes: Dataset, dataset: Dataset, model: str, tmp_path: Path
) -> None:
    tiny = train_recipe()
    recipe = replace(tiny, stream=replace(tiny.stream, resize="squash", planes=("segmentation",)))
    checkpoint = open_checkpoint(model)
    network = build_network(checkpoint.state["network"])
    network.load_state_dict(checkpoint.tensors(checkpoint.generator))
    watch = open_validator(scenes, recipe)
    assert watch is not None
    watched = watch.score(network, World())
    card = score(model, scenes, tmp_path / "scores")
    assert watched.values["val_psnr_hole"] == pytest.approx(card.mean("psnr_hole"), abs=1e-3)
    assert "fills" in watched.sheets
    assert open_validator(dataset, recipe) is None
