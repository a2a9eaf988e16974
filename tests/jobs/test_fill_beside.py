"""`lacuna fill` with what networks take beside photo and mask: sketches, maps, several fills; sizes, procedures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.fill import Arguments, run
from pipelines.records import UsageError
from pipelines.training.run import TrainRun
from tests.jobs.test_fill import HEIGHT, WIDTH, photo_and_mask
from tests.making import MAPPED, PROBABILISTIC, SKETCHED, photo, save_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo, its mask, strokes through the hole, and a map of classes."""
    photo_and_mask(tmp_path)
    strokes = np.full((HEIGHT, WIDTH), 255, np.uint8)
    strokes[26:29, 20:60] = 0
    Image.fromarray(strokes).save(tmp_path / "sketch.png")
    Image.fromarray(255 - strokes).save(tmp_path / "white_sketch.png")
    classes = np.random.default_rng(0).choice(np.array([0, 90, 255], np.uint8), (HEIGHT, WIDTH, 3))
    Image.fromarray(classes).save(tmp_path / "map.png")
    return tmp_path


def fill(folder: Path, model: str, out: str = "out.png", **changes: Any) -> dict[str, Any]:
    words = {"image": str(folder / "photo.png"), "mask": str(folder / "mask.png"), "out": str(folder / out)}
    return run(Arguments(**{"model": model, **words, **changes}))


def fill_pixels(folder: Path, model: str, **changes: Any) -> np.ndarray:
    fill(folder, model, **changes)
    return pixels(folder / "out.png")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def hole_alone(folder: Path, *pictures: np.ndarray) -> bool:
    """Whether all of them are the photo outside its hole."""
    known = pixels(folder / "mask.png")[..., 0] == 0
    return all(np.array_equal(picture[known], pixels(folder / "photo.png")[known]) for picture in pictures)


def test_strokes_change_the_fill_of_a_sketch_guided_network(folder: Path) -> None:
    model = save_network(SKETCHED, folder / "run").uri
    plain = fill_pixels(folder, model)
    dark = fill_pixels(folder, model, sketch=str(folder / "sketch.png"))
    light = fill_pixels(folder, model, sketch=str(folder / "white_sketch.png"))
    assert hole_alone(folder, plain, dark)
    assert not np.array_equal(plain, dark)
    assert np.array_equal(dark, light)


def test_a_map_changes_the_fill_of_a_network_of_track_2(folder: Path) -> None:
    model = save_network(MAPPED, folder / "run", factor=8).uri
    plain, guided = fill_pixels(folder, model), fill_pixels(folder, model, segmentation=str(folder / "map.png"))
    assert hole_alone(folder, plain, guided)
    assert not np.array_equal(plain, guided)


@pytest.mark.parametrize(("given", "out"), [("mask", "m.png"), ("image", "m.png"), ("mask", "m_1.png")])
def test_no_numbered_fill_replaces_the_photo_or_its_mask(folder: Path, given: str, out: str) -> None:
    model = save_network(PROBABILISTIC, folder / "run").uri
    numbered = folder / f"{out.removesuffix('.png')}_1.png"
    (folder / {"mask": "mask.png", "image": "photo.png"}[given]).rename(numbered)
    before = numbered.read_bytes()
    with pytest.raises(UsageError, match=rf"{numbered.name} is the mask or another input; name another file"):
        fill(folder, model, out=out, num_fills=2, **{given: str(numbered)})
    assert numbered.read_bytes() == before
    if given == "mask":
        fill(folder, model, out="other.png", num_fills=2, mask=str(numbered))
        assert (folder / "other_2.png").exists()


def test_several_fills_are_numbered_and_follow_from_the_seed(folder: Path) -> None:
    model = save_network(PROBABILISTIC, folder / "run").uri
    report = fill(folder, model, num_fills=3, seed=7)
    assert report["files"] == [str(folder / f"out_{number}.png") for number in (1, 2, 3)]
    assert (report["num_fills"], report["seed"]) == (3, 7)
    three = [pixels(Path(name)) for name in report["files"]]
    assert hole_alone(folder, *three)
    assert all(not np.array_equal(three[a], three[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    fill(folder, model, out="two.png", num_fills=2, seed=7)
    assert np.array_equal(pixels(folder / "two_2.png"), three[1])
    fill(folder, model, out="other.png", num_fills=2, seed=8)
    assert not np.array_equal(pixels(folder / "other_1.png"), three[0])
    assert not (folder / "out.png").exists()


def test_several_fills_of_many_photos_are_done_together_or_not_at_all(folder: Path) -> None:
    model = save_network(PROBABILISTIC, folder / "run").uri
    for name in ("a", "b"):
        photo(4, HEIGHT, WIDTH).save(folder / f"{name}.jpg")
    words: dict[str, Any] = {"image": str(folder / "?.jpg"), "out": str(folder / "out"), "num_fills": 2}
    assert fill(folder, model, **words)["num_filled"] == 2
    names = ["a_1.png", "a_2.png", "b_1.png", "b_2.png"]
    assert sorted(path.name for path in (folder / "out").glob("*.png")) == names
    (folder / "out" / "a_2.png").unlink()
    report = fill(folder, model, **words)
    assert (report["num_filled"], report["num_skipped"]) == (1, 1)
    assert pixels(folder / "out" / "a_2.png").shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sketch": "sketch.png"}, "--sketch: telea takes no sketch: leave it out, or name a network trained with one"),
        ({"segmentation": "map.png"}, "--segmentation: telea takes no segmentation: leave it out"),
        ({"num_fills": 2}, "--num-fills is 2: telea has one fill for a hole; name a probabilistic network"),
        ({"procedure": "whole"}, "telea has no procedure, 'whole' was given"),
    ],
)
def test_models_are_not_given_what_they_do_not_take(folder: Path, changes: dict[str, Any], words: str) -> None:
    given = {name: str(folder / value) if str(value).endswith(".png") else value for name, value in changes.items()}
    with pytest.raises(UsageError, match=words):
        fill(folder, "telea", **given)
    assert not (folder / "out.png").exists()


def test_procedure_and_size_change_the_fill_and_stand_in_the_report(folder: Path, trained: TrainRun) -> None:
    report = fill(folder, trained.out)
    own = pixels(folder / "out.png")
    assert (report["procedure"], report["size"], report["device"]) == ("local", "own", "cpu")
    report = fill(folder, trained.out, procedure="polyphase")
    assert report["procedure"] == "polyphase"
    assert not np.array_equal(pixels(folder / "out.png"), own)


@pytest.mark.parametrize("model", ["telea", "trained"])
def test_a_hole_filled_at_a_smaller_size_leaves_known_pixels_as_they_are(
    folder: Path, model: str, trained: TrainRun
) -> None:
    name = trained.out if model == "trained" else model
    own, small = fill_pixels(folder, name), fill_pixels(folder, name, size=30)
    assert hole_alone(folder, small)
    assert not np.array_equal(own, small)
    assert np.array_equal(fill_pixels(folder, name, size=5000), own)  # photos are not enlarged


def test_a_size_at_which_nothing_known_is_left_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"photo\.png: at --size 1 no known pixel is left beside its holes"):
        fill(folder, "telea", size=1)


def test_grown_and_feathered_fills_change_known_pixels_that_near_and_no_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, hole = pixels(folder / "photo.png"), pixels(folder / "mask.png")[..., 0] > 0
    noisy = np.random.default_rng(0).integers(0, 255, before.shape, np.uint8)
    Image.fromarray(noisy).save(folder / "photo.png")
    changed = (fill_pixels(folder, "telea", grow=3, feather=4) != noisy).any(axis=2)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.min([np.hypot(rows - r, columns - c) for r, c in zip(*np.nonzero(hole), strict=True)], axis=0)
    assert not changed[distance > 7].any()
    assert changed[distance <= 3].mean() > 0.9
    assert changed[(distance > 3) & (distance <= 7)].mean() > 0.8
    assert "note: known pixels up to 7 px from a hole change, as --grow and --feather ask" in capfd.readouterr().err
