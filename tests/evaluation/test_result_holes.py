"""Masks of other systems: what the hole looks like in a folder, and the masks that are refused by name."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.decoding import Picture
from pipelines.evaluation.result_pairs import ResultPair
from pipelines.evaluation.results import open_results, read_result_chunk
from pipelines.records import UsageError
from tests.evaluation.foreign_results import (
    CONVENTIONS,
    draw_mask,
    draw_photo,
    fill_blurred,
    save,
    to_black,
    to_magenta,
    to_white,
    write_system,
)

DATA = Path(os.environ.get("LACUNA_DATA", "/nowhere"))


def read_folder(folder: Path, hole: str = "auto") -> list[ResultPair]:
    results = open_results(str(folder / "out"), str(folder / "photos"), str(folder / "masks"), hole)
    return [pair for chunk in range(results.num_chunks) for pair in read_result_chunk(results, chunk)]


def test_a_mask_of_gray_edges_is_refused_by_name(tmp_path: Path) -> None:
    write_system(tmp_path, 3)
    ramp = np.tile(np.linspace(0, 255, 52).astype(np.uint8), (40, 1))
    save(tmp_path / "masks/001.png", ramp)
    with pytest.raises(UsageError, match=r"001\.png is 8\d% gray: give black and white pixels"):
        read_folder(tmp_path)


@pytest.mark.parametrize(("level", "state"), [(0, "empty: no pixel is white"), (255, "full: every pixel is white")])
def test_a_mask_without_hole_or_without_known_pixels_is_refused(tmp_path: Path, level: int, state: str) -> None:
    write_system(tmp_path, 3)
    save(tmp_path / "masks/002.png", np.full((40, 52), level, np.uint8))
    with pytest.raises(UsageError, match=rf"002\.png is {state}"):
        read_folder(tmp_path, "white")


def test_several_refused_masks_are_counted(tmp_path: Path) -> None:
    write_system(tmp_path, 4)
    for name in ("001", "003"):
        save(tmp_path / f"masks/{name}.png", np.zeros((40, 52), np.uint8))
    with pytest.raises(UsageError, match=r"2 of 4 masks are refused: .*001\.png is empty.*003\.png is empty"):
        read_folder(tmp_path, "white")


def test_one_inverted_mask_among_others_is_named(tmp_path: Path) -> None:
    write_system(tmp_path, 6)
    save(tmp_path / "masks/004.png", to_black(draw_photo(4), draw_mask(4)))
    with pytest.raises(
        UsageError, match=r"004\.png looks inverted: the hole is white in the others, .* 0\.0 levels in"
    ):
        read_folder(tmp_path)


def test_the_wrong_color_of_all_holes_is_noticed_in_composed_results(tmp_path: Path) -> None:
    write_system(tmp_path, 3, "black")
    with pytest.raises(UsageError, match=r"out/000\.png equals its photo in the hole .*000\.png is inverted"):
        read_folder(tmp_path, "white")


def test_auto_decides_for_results_that_changed_known_pixels(tmp_path: Path) -> None:
    write_system(tmp_path, 4, "black")
    for number in range(4):
        photo, mask = draw_photo(number), draw_mask(number)
        raw = np.where(mask[:, :, None] > 0, 255 - photo, np.minimum(photo + 3, 255)).astype(np.uint8)
        save(tmp_path / f"out/{number:03d}.png", raw)
    pair = read_folder(tmp_path)[0]
    np.testing.assert_array_equal(pair.mask, draw_mask(0))
    assert pair.change.mean_levels == pytest.approx(3, abs=0.01)


def test_auto_refuses_to_guess_where_results_differ_alike(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    for number in range(2):
        save(tmp_path / f"out/{number:03d}.png", draw_photo(number + 50))
    with pytest.raises(
        UsageError, match=r"--hole auto cannot decide: results differ .* Say --hole white or --hole black"
    ):
        read_folder(tmp_path)


def test_a_folder_of_two_kinds_of_masks_is_refused(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    save(tmp_path / "masks/001.png", CONVENTIONS["alpha"](draw_photo(1), draw_mask(1)))
    with pytest.raises(UsageError, match=r"different kinds: .*000\.png is black and white, .*001\.png is transparent"):
        read_folder(tmp_path)


def test_a_color_that_does_not_occur_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_system(tmp_path, 2, "#ff00fe")
    with pytest.raises(UsageError, match=r"no pixel of #ff00ff: the nearest color in it is #ff00fe"):
        read_folder(tmp_path, "#ff00ff")


def test_the_color_that_is_proposed_is_shared_by_the_masked_inputs(tmp_path: Path) -> None:
    write_system(tmp_path, 3, "#ff00fe")
    sky = draw_photo(0)
    sky[:] = (1, 2, 200)
    save(tmp_path / "photos/000.png", sky)
    save(tmp_path / "masks/000.png", to_magenta(sky, draw_mask(0)))
    with pytest.raises(UsageError, match=r"such as --hole #ff00fe, where these are the masked inputs"):
        read_folder(tmp_path)


def test_a_picture_of_one_color_is_full(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    save(tmp_path / "masks/000.png", np.full((40, 52, 3), 7, np.uint8))
    with pytest.raises(UsageError, match=r"000\.png is full: every pixel is #070707"):
        read_folder(tmp_path, "#070707")


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_masked_inputs_of_lossy_formats_are_refused(tmp_path: Path, suffix: str) -> None:
    write_system(tmp_path, 1, "#ff00fe")
    (tmp_path / "masks/000.png").unlink()
    save(tmp_path / f"masks/000.{suffix}", to_magenta(draw_photo(0), draw_mask(0)))
    with pytest.raises(UsageError, match=r"its colors are not exact"):
        read_folder(tmp_path, "#ff00fe")


def test_lossless_webp_holds_exact_colors(tmp_path: Path) -> None:
    write_system(tmp_path, 1, "#ff00fe")
    (tmp_path / "masks/000.png").unlink()
    save(tmp_path / "masks/000.webp", to_magenta(draw_photo(0), draw_mask(0)), lossless=True)
    np.testing.assert_array_equal(read_folder(tmp_path, "#FF00FE")[0].mask, draw_mask(0))


def test_pixels_of_the_photo_in_the_color_of_the_hole_are_counted(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    photo = draw_photo(0)
    photo[39, :4] = (255, 0, 254)
    save(tmp_path / "photos/000.png", photo)
    save(tmp_path / "masks/000.png", to_magenta(photo, draw_mask(0)))
    (pair,) = read_folder(tmp_path, "#ff00fe")
    assert "mask: 4 pixels of the photo are #ff00fe themselves and count as hole" in pair.notes


def test_a_color_picture_is_no_black_and_white_mask(tmp_path: Path) -> None:
    write_system(tmp_path, 1, "#ff00fe")
    with pytest.raises(UsageError, match=r"000\.png is a color picture: give a mask"):
        read_folder(tmp_path, "white")


def test_opaque_masks_have_no_transparent_hole(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    with pytest.raises(UsageError, match=r"000\.png has no transparency: use --hole white"):
        read_folder(tmp_path, "alpha")


@pytest.mark.parametrize("hole", ["green", "#fff", "0"])
def test_an_unknown_hole_is_refused_with_the_choices(tmp_path: Path, hole: str) -> None:
    write_system(tmp_path, 1)
    with pytest.raises(UsageError, match=r"use auto, white, black, alpha, or a color such as #ff0000"):
        read_folder(tmp_path, hole)


def test_jpeg_masks_and_arrays_of_zero_and_one_are_masks(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    mask = np.zeros((40, 52), np.uint8)
    mask[8:24, 8:32] = 1
    for number in range(2):
        save(tmp_path / f"out/{number:03d}.png", fill_blurred(draw_photo(number), mask))
    save(tmp_path / "masks/000.png", mask)
    (tmp_path / "masks/001.png").unlink()
    save(tmp_path / "masks/001.jpg", to_white(draw_photo(1), mask), quality=95)
    for pair in read_folder(tmp_path):
        np.testing.assert_array_equal(pair.mask, mask)


def list_real_pairs(count: int) -> list[tuple[str, Picture, Picture]]:
    """Name, photo and mask of real photos with real masks."""
    photos = sorted((DATA / "bsds500/val").rglob("*.jpg"))[:count]
    masks = sorted((DATA / "masks/test_mask").rglob("*.png"))[:: 2400 // count]
    pairs = []
    for photo, mask in zip(photos, masks, strict=False):
        pixels = np.asarray(Image.open(photo).convert("RGB"))
        size = pixels.shape[1], pixels.shape[0]
        levels = np.asarray(Image.open(mask).convert("L").resize(size, Image.Resampling.NEAREST))
        pairs.append((photo.stem, pixels, (levels > 127).astype(np.uint8)))
    return pairs


@pytest.mark.realdata
@pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA names no folder of real photos")
def test_real_photos_give_the_same_pairs_in_every_convention(tmp_path: Path) -> None:
    pairs = [pair for pair in list_real_pairs(30) if 0 < pair[2].mean() < 1]
    assert len(pairs) > 20
    for name, photo, mask in pairs:
        save(tmp_path / f"photos/{name}.png", photo)
        save(tmp_path / f"out/{name}_fake.png", fill_blurred(photo, mask))
        for hole, convert in CONVENTIONS.items():
            save(tmp_path / hole / f"{name}_mask.png", convert(photo, mask))
    for hole in CONVENTIONS:
        chosen = [hole] if hole.startswith("#") else [hole, "auto"]
        for how in chosen:
            results = open_results(str(tmp_path / "out"), str(tmp_path / "photos"), str(tmp_path / hole), how)
            assert results.hole.color == hole
            found = [pair for chunk in range(results.num_chunks) for pair in read_result_chunk(results, chunk)]
            for (name, photo, mask), pair in zip(pairs, found, strict=True):
                assert pair.key == name
                np.testing.assert_array_equal(pair.mask, mask)
                np.testing.assert_array_equal(pair.composed, fill_blurred(photo, mask))
                assert pair.change == (0, 0, 0)
