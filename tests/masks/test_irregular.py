"""Masks that are made of files: both polarities, the file that is not the one, and NVIDIA's own test set."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.keyed_rng import KeyedRng
from pipelines.masks import FILE_MASKS
from pipelines.masks.bins import BINS, find_bin, hole_ratio
from pipelines.masks.spec import MaskSpec, UnreachableRatioError, make_file_mask_spec, parse_mask_spec
from pipelines.records import CorruptDataError, UsageError


def blob(height: int = 128, width: int = 128) -> NDArray[np.uint8]:
    """A hole of 40x24 pixels, 1 = hole."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 - 20 : height // 2 + 20, width // 2 - 12 : width // 2 + 12] = 1
    return mask


def png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


WHITE, BLACK = png(blob() * np.uint8(255)), png((1 - blob()) * np.uint8(255))


def test_white_is_the_hole_in_the_test_set() -> None:
    line = make_file_mask_spec("irregular", "a/00000.png", WHITE, 128, 64, 0, "mask", 7).line()
    assert line.startswith("irregular 1 drawn=128x128 file=a/00000.png sha256=")
    assert line.endswith(" 64x64 any 0/mask/7")
    assert np.array_equal(parse_mask_spec(line).draw({"a/00000.png": WHITE}.__getitem__), blob()[::2, ::2])


def test_black_is_the_hole_in_the_training_set_and_grows() -> None:
    masks = [train_mask(number) for number in range(60)]
    areas = np.array([mask.sum() for mask in masks])
    assert areas.max() <= (40 + 48) * (24 + 48) * 1.1
    assert np.median(areas) > 1.5 * 40 * 24


def train_mask(number: int) -> NDArray[np.uint8]:
    """A mask of the black blob; of a file, so that all of them differ by chance only."""
    spec = make_file_mask_spec("irregular-train", "raw.png", BLACK, 128, 128, 0, "mask", number)
    mask = spec.draw(lambda _: BLACK)
    assert np.array_equal(mask, parse_mask_spec(spec.line()).draw(lambda _: BLACK))
    return mask


def test_training_masks_turn_and_move() -> None:
    centers = np.array([np.argwhere(train_mask(number)).mean(axis=0) for number in range(60)])
    assert (centers.std(axis=0) > 10).all()
    elongation = [np.cov(np.argwhere(train_mask(number)).T) for number in range(60)]
    tilts = [c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in elongation]
    assert max(tilts) > 0.1
    assert min(tilts) < -0.1


def test_a_raw_file_of_any_shape_gives_a_mask_of_the_asked_shape() -> None:
    data = png((1 - blob(100, 200)) * np.uint8(255))
    spec = make_file_mask_spec("irregular-train", "wide.png", data, 160, 80, 1)
    assert spec.draw(lambda _: data).shape == (80, 80)


def test_gray_between_the_thresholds_is_a_hole_for_training_and_for_testing() -> None:
    levels = np.where(blob() > 0, 140, 0).astype(np.uint8)
    assert np.array_equal(FILE_MASKS["irregular"].draw(levels, 128, 128, KeyedRng("g")), blob())
    raw = np.where(blob() > 0, 140, 255).astype(np.uint8)
    assert FILE_MASKS["irregular-train"].draw(raw, 128, 128, KeyedRng("g")).any()


def test_an_array_of_0_and_1_saved_as_a_picture_is_a_mask() -> None:
    data = png(blob())
    assert np.array_equal(make_file_mask_spec("irregular", "m", data, 128, 128, 0).draw(lambda _: data), blob())


GRAY = np.random.default_rng(1).integers(0, 256, (128, 128), np.uint8)


@pytest.mark.parametrize("family", FILE_MASKS)
@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (GRAY, r"m\.png is \d+% gray: give black and white pixels"),
        (np.zeros((128, 128), np.uint8), r"m\.png is (empty: no pixel is white|full: every pixel is black)"),
        (np.full((128, 128), 255, np.uint8), r"m\.png is (full: every pixel is white|empty: no pixel is black)"),
    ],
)
def test_a_file_that_is_no_mask_is_named(family: str, levels: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_file_mask_spec(family, "m.png", png(levels), 128, 64, 0)


@pytest.mark.parametrize(("family", "data", "color"), [("irregular", BLACK, "white"), ("irregular-train", WHITE, "bl")])
def test_a_file_of_the_other_set_is_refused_as_inverted(family: str, data: bytes, color: str) -> None:
    with pytest.raises(
        UsageError, match=rf"m\.png looks inverted: 94% of it and 100% of its border are {color}.*the other"
    ):
        make_file_mask_spec(family, "m.png", data, 128, 64, 0)


def test_a_file_of_another_bin_is_not_drawn_again_and_again() -> None:
    data = png(np.pad(blob(), 192) * np.uint8(255))
    with pytest.raises(UnreachableRatioError, match=r": 1 came out empty or full or not in 0\.5-0\.6"):
        make_file_mask_spec("irregular", "m", data, 512, 256, 0, bin="0.5-0.6")


def test_another_file_of_that_name_is_not_taken() -> None:
    spec = make_file_mask_spec("irregular", "00000.png", WHITE, 128, 64, 0)
    with pytest.raises(CorruptDataError, match=r"00000\.png has SHA-256 .*, its mask spec says .*: restore the file"):
        spec.draw(lambda _: BLACK)


def test_files_are_asked_for() -> None:
    with pytest.raises(UsageError, match=r"made of the file 00000\.png: give the folder of the mask files"):
        make_file_mask_spec("irregular", "00000.png", WHITE, 128, 64, 0).draw()


def test_a_ratio_is_that_of_the_pixels() -> None:
    assert make_file_mask_spec("irregular", "m", WHITE, 128, 128, 0, bin=find_bin(blob())).bin == "0.01-0.1"
    with pytest.raises(UsageError, match=r"not in 0\.5-0\.6. Use another file or another bin"):
        make_file_mask_spec("irregular", "m", WHITE, 128, 128, 0, bin="0.5-0.6")


def test_a_training_mask_is_drawn_until_it_is_in_its_bin() -> None:
    spec = make_file_mask_spec("irregular-train", "m", BLACK, 128, 128, 0, bin="0.2-0.3")
    assert 0.2 < hole_ratio(spec.draw(lambda _: BLACK)) <= 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("rectangle", "a.png", WHITE, 128),
            "unknown family of mask files 'rectangle': use one of irregular, irregular-tr",
        ),
        (("irregular", "a b.png", WHITE, 128), "the mask file's name is 'a b.png'"),
        (("irregular", "a.png", WHITE, 512), "the mask file is 128x128, its mask spec says drawn=512x512"),
        (("irregular", "a.png", b"no picture", 128), "a.png is not a picture"),
    ],
)
def test_what_makes_no_mask_is_refused_at_once(arguments: tuple[str, str, bytes, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_file_mask_spec(*arguments, 64, 0)


def test_a_drawn_family_takes_no_file_and_a_family_of_files_needs_one() -> None:
    drawn = MaskSpec("irregular", 1, (64, 64), (64, 64), "0")
    with pytest.raises(UsageError, match="unknown mask family 'irregular' of version 1"):
        drawn.draw()


@pytest.mark.realdata
@pytest.mark.skipif("LACUNA_DATA" not in os.environ, reason="LACUNA_DATA is not set")
def test_nvidia_masks_lie_in_the_bins_that_their_numbers_say() -> None:
    folder = Path(os.environ["LACUNA_DATA"], "masks", "test_mask")
    files = sorted(folder.glob("*.png"))[::20]
    assert files
    for file in files:
        spec = make_file_mask_spec("irregular", file.name, file.read_bytes(), 512, 512, 0)
        mask = spec.draw(lambda name: (folder / name).read_bytes())
        assert find_bin(mask) == BINS[1 + int(file.stem) // 2000]
