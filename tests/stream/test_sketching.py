"""Sketches of photos: thin lines where edges are, the same for any number of ranks and loaders."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from infra.world import World
from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.manifest import Dataset
from pipelines.records import Batch, UsageError
from pipelines.stream.batching import Stream
from pipelines.stream.config import StreamConfig, Transform
from pipelines.stream.sketching import detect_edges, draw_sketch, edges_to_sketch
from tests.conftest import silent
from tests.making import shard_recipe

CONFIG = StreamConfig(
    size_px=32,
    resize="random-square",
    masks=("rectangle",),
    mask_canvas_px=64,
    sketch_planes=("sketch",),
    num_lanes=4,
    block_size=8,
)


def card(side: int = 64, left: int = 20, right: int = 44) -> NDArray[np.uint8]:
    """A bright square on a dark ground, SxSx3."""
    photo = np.full((side, side, 3), 40, np.uint8)
    photo[left:right, left:right] = 200
    return photo


def edge_map(side: int, *boxes: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """SxS, 1 in the boxes (top, left, height, width)."""
    edges = np.zeros((side, side), np.float32)
    for top, left, height, width in boxes:
        edges[top : top + height, left : left + width] = 1
    return edges


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Thirty photos of squares in shades of their own."""
    root = tmp_path_factory.mktemp("cards")
    for number in range(30):
        Image.fromarray(card(48, 8 + number % 9, 40) + np.uint8(number)).save(root / f"{number}.png")
    out = tmp_path_factory.mktemp("card-data") / "data"
    return build_dataset(Plan(str(root), str(out), shard_recipe(holdout=0.0), seed=0), silent)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Dataset:
    """Photos of one shade whose edge maps, as files, have a bar across the middle."""
    root = tmp_path_factory.mktemp("mapped")
    folder: Path = root / "photos"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (100 + number, 100, 100)).save(folder / f"{number}.png")
        bar = (edge_map(32, (14, 2, 4, 28)) * 255).astype(np.uint8)
        Image.fromarray(bar).save(folder / f"{number}_edge.png")
    out = tmp_path_factory.mktemp("mapped-data") / "data"
    return build_dataset(Plan(str(root), str(out), shard_recipe(planes=("edge",), holdout=0.0), seed=0), silent)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_sketch_of_a_square_is_its_outline(side: int) -> None:
    left, right = side // 4, 3 * side // 4
    sketch = draw_sketch(card(side, left, right), None, 0.65)
    assert sketch.shape == (side, side, 1)
    assert sketch.dtype == np.uint8
    assert set(np.unique(sketch)) == {0, 255}
    y, x = np.nonzero(sketch[:, :, 0])
    far = np.maximum(abs(y - (side - 1) / 2), abs(x - (side - 1) / 2))  # of the middle, in steps of a king
    assert (abs(far - (right - left) / 2) <= 2).all()
    assert 0.8 < len(y) / (4 * (right - left)) < 1.2, "not one line all around"


def test_where_nothing_is_to_be_seen_nothing_is_drawn() -> None:
    assert not draw_sketch(np.full((64, 64, 3), 77, np.uint8), None, 0.65).any()
    faint = np.full((64, 64, 3), 77, np.uint8)
    faint[:, 32:] += 1
    assert not draw_sketch(faint, None, 0.65).any()


@settings(max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([32, 64, 100]), st.floats(0.05, 0.95))
def test_a_sketch_lies_on_edges_above_the_threshold_and_is_thin(seed: int, side: int, threshold: float) -> None:
    noise = np.random.default_rng(seed).random((side, side), np.float32)
    edges = cv2.GaussianBlur(noise, (0, 0), 2)
    edges = (edges - edges.min()) / (edges.max() - edges.min())
    sketch = edges_to_sketch(edges, threshold)[:, :, 0]
    assert not (sketch[edges <= threshold]).any()
    solid = sketch > 0
    blocks = sum(solid[i : side - 2 + i, j : side - 2 + j].astype(int) for i in range(3) for j in range(3))
    assert np.max(blocks) < 9, "a skeleton has no solid 3x3 block"
    assert np.array_equal(edges_to_sketch(sketch.astype(np.float32) / 255, 0.5)[:, :, 0], _clean_by_hand(solid) * 255)


def _clean_by_hand(solid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Without its 8-connected components of fewer than 100 pixels at 256x256, by flooding."""
    kept, rest = np.zeros(solid.shape, np.uint8), {(int(y), int(x)) for y, x in zip(*np.nonzero(solid), strict=True)}
    while rest:
        found, front = set(), [rest.pop()]
        while front:
            y, x = front.pop()
            found.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & rest
            rest -= near
            front += near
        if len(found) >= 100 * solid.size / 256**2:
            for place in found:
                kept[place] = 1
    return kept


@pytest.mark.parametrize(("length", "kept"), [(33, False), (34, True)])
def test_components_of_fewer_than_100_pixels_are_noise(length: int, kept: bool) -> None:
    edges = edge_map(256, (100, 50, 3, length))  # 99 or 102 pixels
    assert edges_to_sketch(edges, 0.65).any() == kept


@pytest.mark.parametrize(("length", "kept"), [(6, False), (7, True)])
def test_at_64_px_a_sixteenth_of_that_is_enough(length: int, kept: bool) -> None:
    assert edges_to_sketch(edge_map(64, (30, 20, 1, length)), 0.65).any() == kept


def test_components_that_touch_at_corners_are_one() -> None:
    steps = [(40 + 10 * n, 40 + 10 * n, 10, 10) for n in range(2)]
    assert edges_to_sketch(edge_map(256, *steps), 0.65).any()
    apart = [(40, 40, 9, 9), (50, 50, 9, 9)]
    assert not edges_to_sketch(edge_map(256, *apart), 0.65).any()


def test_the_threshold_itself_is_no_edge() -> None:
    assert not edges_to_sketch(edge_map(64, (20, 10, 2, 40)) * 0.65, float(np.float32(0.65))).any()
    assert edges_to_sketch(edge_map(64, (20, 10, 2, 40)) * 0.66, 0.65).any()


@given(st.integers(0, 999))
def test_edges_are_between_0_and_1_and_do_not_depend_on_contrast(seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 100, (16, 16, 3)).astype(np.uint8)
    photo = np.asarray(cv2.resize(photo, (48, 48), interpolation=cv2.INTER_CUBIC), np.uint8)
    edges = detect_edges(photo)
    assert edges.min() >= 0
    assert edges.max() <= 1
    assert np.allclose(detect_edges(photo * np.uint8(2)), edges, atol=0.05)


def test_a_map_from_a_file_comes_before_the_detector() -> None:
    bar = (edge_map(64, (30, 4, 4, 56)) * 255).astype(np.uint8)[:, :, None]
    sketch = draw_sketch(card(), bar, 0.65)
    assert set(np.nonzero(sketch)[0]) <= set(range(30, 34))


def first(
    dataset: Dataset, config: StreamConfig = CONFIG, world: World | None = None, processes: int = 0
) -> list[Batch]:
    """The first four batches of eight."""
    return list(islice(Stream((dataset,), config, 0).batches(0, 8, world or World(), processes), 4))


def sketches(batches: list[Batch]) -> dict[int, bytes]:
    """The sketch of every position."""
    return {p: s.numpy().tobytes() for b in batches for p, s in zip(b.positions, b.planes["sketch"], strict=True)}


def test_the_stream_draws_the_sketch_of_what_it_shows(cards: Dataset) -> None:
    for batch in first(cards):
        assert (batch.planes["sketch"].shape, batch.planes["sketch"].dtype) == ((8, 1, 32, 32), torch.uint8)
        for image, sketch in zip(batch.image, batch.planes["sketch"], strict=True):
            again = draw_sketch(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), None, 0.65)
            assert np.array_equal(sketch.permute(1, 2, 0).numpy(), again)
    assert any(batch.planes["sketch"].any() for batch in first(cards))


@pytest.mark.parametrize("size", [2, 4])
def test_any_world_sees_the_same_sketches(cards: Dataset, size: int) -> None:
    alone = sketches(first(cards))
    shares = [sketches(first(cards, world=World(rank, size))) for rank in range(size)]
    assert {p: sketch for share in shares for p, sketch in share.items()} == alone


def test_loader_processes_draw_the_same_sketches(cards: Dataset) -> None:
    assert sketches(first(cards, processes=2)) == sketches(first(cards))


def test_drawing_changes_neither_image_nor_mask(cards: Dataset) -> None:
    for one, other in zip(first(cards), first(cards, replace(CONFIG, sketch_planes=())), strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.mask, other.mask)
        assert "sketch" not in other.planes


def test_the_threshold_of_the_config_counts(cards: Dataset) -> None:
    few, many = (sketches(first(cards, replace(CONFIG, sketch_threshold=t))) for t in (0.95, 0.2))
    assert few != many


def test_a_stored_edge_map_is_what_the_sketch_is_made_of(mapped: Dataset) -> None:
    upright = replace(CONFIG, resize="squash", augment=(Transform("VerticalFlip"),))
    assert not any(batch.planes["sketch"].any() for batch in first(mapped, upright)), "the photos have no edges"
    for batch in first(mapped, replace(upright, planes=("edge",))):
        rows = batch.planes["sketch"].amax(dim=(0, 1, 3)).nonzero().flatten().tolist()
        assert set(rows) <= set(range(14, 18))
        assert batch.planes["sketch"].flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sketch_planes": ("edge",)}, "unknown sketch plane 'edge': use one of sketch"),
        ({"planes": ("sketch",)}, "'sketch' is in planes and in sketch_planes"),
        ({"sketch_threshold": 1.0}, r"sketch_threshold is 1\.0: it must be from 0 to less than 1"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_a_sketch_of_a_turned_photo_is_the_sketch_turned() -> None:
    """Sizes of lines go by the area, so that neither side is the one that counts."""
    photo = np.full((60, 150, 3), 40, np.uint8)
    photo[15:45, 30:110] = 200
    strength, turned = detect_edges(photo), detect_edges(np.ascontiguousarray(photo.transpose(1, 0, 2)))
    assert np.allclose(strength, turned.T)
    assert strength.max() > 0.9
