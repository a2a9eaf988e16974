"""`lacuna fill`: what is read, what is refused with a reason, and that known pixels stay what they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from infra.settings import PROJECT_ROOT
from jobs.fill import Arguments, run
from pipelines.checkpoints import open_checkpoint, save_checkpoint
from pipelines.records import JobError, UsageError
from pipelines.training.run import TrainRun
from tests.making import lacuna, photo

pytestmark = pytest.mark.thorough

HEIGHT, WIDTH = 50, 70


def photo_and_mask(folder: Path) -> np.ndarray:
    """`photo.png`, 70x50, and `mask.png` with a white hole of a tenth; the mask's levels."""
    photo(3, HEIGHT, WIDTH).save(folder / "photo.png")
    hole = np.zeros((HEIGHT, WIDTH), np.uint8)
    hole[20:35, 30:54] = 255
    Image.fromarray(hole).save(folder / "mask.png")
    return hole


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo, its mask, and the same mask with black and white exchanged."""
    Image.fromarray(255 - photo_and_mask(tmp_path)).save(tmp_path / "inverted.png")
    return tmp_path


def fill(
    folder: Path,
    model: str = "telea",
    *,
    image: str = "photo.png",
    mask: str = "mask.png",
    out: str = "out.png",
    hole: Literal["auto", "white", "black"] = "auto",
) -> np.ndarray:
    """Runs the verb on files of the folder; returns the picture that it wrote."""
    run(Arguments(model, str(folder / image), str(folder / out), str(folder / mask), hole))
    with Image.open(folder / out) as written:
        assert (written.format, written.mode) == ("PNG", "RGB")
        return np.asarray(written)


def pixels(folder: Path, name: str = "photo.png") -> np.ndarray:
    with Image.open(folder / name) as picture:
        return np.asarray(picture)


def assert_hole_alone_changed(folder: Path, filled: np.ndarray, photo_name: str = "photo.png") -> None:
    image, hole = pixels(folder, photo_name), pixels(folder, "mask.png") > 0
    assert filled.shape == image.shape
    assert np.array_equal(filled[~hole], image[~hole])


@pytest.mark.parametrize("model", ["telea", "navier-stokes"])
def test_known_pixels_stay_and_the_hole_is_filled(folder: Path, model: str) -> None:
    damaged = pixels(folder).copy()
    damaged[pixels(folder, "mask.png") > 0] = (255, 0, 255)
    Image.fromarray(damaged).save(folder / "damaged.png")
    filled = fill(folder, model, image="damaged.png")
    assert_hole_alone_changed(folder, filled, "damaged.png")
    assert np.abs(filled.astype(int) - pixels(folder)).max() < 30  # the smooth photo comes back


def test_a_fill_that_is_not_finite_is_refused_and_nothing_written(folder: Path, trained: TrainRun) -> None:
    checkpoint = open_checkpoint(trained.out)
    generator = {name: tensor * float("nan") for name, tensor in checkpoint.tensors("generator").items()}
    facts = {"images_seen": 4, "network": checkpoint.state["network"], "size_px": checkpoint.state["size_px"]}
    broken = save_checkpoint(str(folder / "run"), {"generator": generator}, facts)
    with pytest.raises(JobError, match=r"cannot fill .*photo\.png: the fill of picture 1 of 1 is not finite"):
        fill(folder, broken.uri)
    assert not (folder / "out.png").exists()


def test_a_checkpoint_fills_too(folder: Path, trained: TrainRun) -> None:
    assert_hole_alone_changed(folder, fill(folder, trained.out))


def test_the_report_says_what_was_done(folder: Path) -> None:
    image, mask, out = (str(folder / name) for name in ("photo.png", "mask.png", "out.png"))
    report = run(Arguments("telea", image, out, mask))
    assert (report["width_px"], report["height_px"], report["model"]) == (WIDTH, HEIGHT, "telea")
    assert report["hole_ratio"] == round(15 * 24 / (HEIGHT * WIDTH), 4)
    assert report["out"] == str(folder / "out.png")
    assert "normalised" not in report


@pytest.mark.parametrize(("mode", "done"), [("RGBA", "RGBA to RGB"), ("I;16", "16")])
def test_losses_of_a_photo_are_reported(folder: Path, capfd: pytest.CaptureFixture[str], mode: str, done: str) -> None:
    if mode == "RGBA":
        photo(3, HEIGHT, WIDTH).convert("RGBA").save(folder / "odd.png")
    else:
        Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 16).save(folder / "odd.png")
    image, mask, out = (str(folder / name) for name in ("odd.png", "mask.png", "out.png"))
    report = run(Arguments("telea", image, out, mask))
    assert any(done in step for step in report["normalised"])
    assert f"note: {image} was made upright 8-bit RGB before it was filled: " in capfd.readouterr().err


def test_a_photo_is_laid_upright_before_it_is_filled(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo(3, WIDTH, HEIGHT).save(folder / "turned.png", exif=exif)
    filled = fill(folder, image="turned.png")
    assert filled.shape == (HEIGHT, WIDTH, 3)
    upright = np.rot90(np.asarray(photo(3, WIDTH, HEIGHT)), -1)
    hole = pixels(folder, "mask.png") > 0
    assert np.array_equal(filled[~hole], upright[~hole])


def test_a_gray_photo_is_filled_as_gray(folder: Path) -> None:
    photo(3, HEIGHT, WIDTH).convert("L").save(folder / "gray.jpg", quality=95)
    filled = fill(folder, image="gray.jpg")
    assert np.ptp(filled, axis=2).max() == 0


def test_an_inverted_mask_is_refused_unless_the_color_of_its_hole_is_given(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"inverted\.png looks inverted: 90% .*Use --hole black"):
        fill(folder, mask="inverted.png")
    assert not (folder / "out.png").exists()
    assert np.array_equal(fill(folder, mask="inverted.png", hole="black"), fill(folder, mask="mask.png"))


def test_an_inverted_mask_that_is_meant_so_fills_all_but_its_middle(folder: Path) -> None:
    filled = fill(folder, mask="inverted.png", hole="white")
    middle = pixels(folder, "inverted.png") == 0
    assert np.array_equal(filled[middle], pixels(folder)[middle])
    assert not np.array_equal(filled, pixels(folder))


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no file at .*/nothing\.png"):
        fill(folder, image="nothing.png")
    with pytest.raises(UsageError, match=r"no file at .*/nothing\.png"):
        fill(folder, mask="nothing.png")


@pytest.mark.parametrize("option", ["model", "image", "mask", "out"])
def test_an_option_that_is_empty_is_named(folder: Path, option: str) -> None:
    words: dict[str, Any] = {
        "model": "telea",
        "image": str(folder / "photo.png"),
        "mask": str(folder / "mask.png"),
        "out": "o.png",
    }
    with pytest.raises(UsageError, match=f"--{option} is empty: give it a value"):
        run(Arguments(**words | {option: " "}))


def test_text_instead_of_a_photo_or_a_mask_is_refused(folder: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    with pytest.raises(UsageError, match=r"text\.png cannot be filled: not an image of a known format"):
        fill(folder, image="text.png")
    with pytest.raises(UsageError, match=r"text\.png is not a picture: give a mask as PNG"):
        fill(folder, mask="text.png")


def test_a_cut_photo_is_refused(folder: Path) -> None:
    data = (folder / "photo.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"cut\.png cannot be filled: cut or damaged"):
        fill(folder, image="cut.png")


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    Image.fromarray(pixels(folder, "mask.png")[:, 1:]).save(folder / "narrow.png")
    with pytest.raises(UsageError, match=r"narrow\.png is 69x50, the photo is 70x50: give a picture of the photo"):
        fill(folder, mask="narrow.png")


@pytest.mark.parametrize(("level", "words"), [(0, "empty: no pixel is white"), (255, "full: every pixel is white")])
def test_a_mask_without_hole_or_without_photo_is_refused(folder: Path, level: int, words: str) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), level, np.uint8)).save(folder / "flat.png")
    with pytest.raises(UsageError, match=words):
        fill(folder, mask="flat.png")


def test_a_photo_as_mask_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="is a color picture"):
        fill(folder, mask="photo.png")


@pytest.mark.parametrize("out", ["out.gif", "out", "out.tif"])
def test_a_result_of_another_format_is_refused(folder: Path, out: str) -> None:
    with pytest.raises(UsageError, match=r"name a file that ends in \.png, \.jpg, \.jpeg, \.webp, or a folder by a /"):
        fill(folder, out=out)
    assert not (folder / out).exists()


def test_an_unknown_model_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint at "):
        fill(folder, str(folder / "model"))
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize("step", ["ensemble", "blur"])
def test_a_step_of_the_challenge_changes_the_fill_and_is_refused_for_others(
    folder: Path, trained: TrainRun, step: str
) -> None:
    image, mask, out = (str(folder / name) for name in ("photo.png", "mask.png", "out.png"))
    plain = Arguments(trained.out, image, out, mask)
    run(plain)
    before = pixels(folder, "out.png")
    run(replace(plain, **{step: True}))  # type: ignore[arg-type]
    assert_hole_alone_changed(folder, pixels(folder, "out.png"))
    assert not np.array_equal(pixels(folder, "out.png"), before)
    for other in ("telea", "models:/faces@champion"):
        with pytest.raises(UsageError, match=f"{other} has no extra steps of a script: use the network"):
            run(replace(plain, model=other, **{step: True}))  # type: ignore[arg-type]


def odd_hole(name: str) -> np.ndarray:
    """Levels of a mask that is small, or whose hole is in many places."""
    if name == "specks":
        mask = np.zeros((160, 200), np.uint8)
        mask.flat[np.random.default_rng(0).choice(mask.size, 2000, replace=False)] = 255
    elif name == "frame":
        mask = np.full((60, 80), 255, np.uint8)
        mask[1:-1, 1:-1] = 0
    else:
        mask = np.zeros(tuple(map(int, name.split("x"))), np.uint8)
        mask[0, 0] = 255
    return mask


@pytest.mark.parametrize("model", ["telea", "trained"])
@pytest.mark.parametrize("name", ["1x7", "7x1", "2x2", "frame", "specks"])
def test_odd_photos_and_holes_are_filled(folder: Path, name: str, model: str, trained: TrainRun) -> None:
    mask = odd_hole(name)
    photo(3, *mask.shape).save(folder / "photo.png")
    Image.fromarray(mask).save(folder / "mask.png")
    assert_hole_alone_changed(folder, fill(folder, trained.out if model == "trained" else model))


def test_photos_of_one_pixel_and_of_too_many_are_refused(folder: Path) -> None:
    photo(3, 1, 1).save(folder / "photo.png")
    for level, words in ((0, "is empty: no pixel is white"), (255, "is full: every pixel is white")):
        Image.new("L", (1, 1), level).save(folder / "mask.png")
        with pytest.raises(UsageError, match=words):
            fill(folder)
    data = (folder / "photo.png").read_bytes()
    (folder / "photo.png").write_bytes(data[:16] + (10_001).to_bytes(4, "big") * 2 + data[24:])  # as its header has it
    with pytest.raises(UsageError, match=r"photo\.png cannot be filled: 10001x10001 pixels are more than 100000000"):
        fill(folder)


def test_the_result_may_replace_the_photo(folder: Path) -> None:
    before, hole = pixels(folder), pixels(folder, "mask.png") > 0
    filled = fill(folder, out="photo.png")
    assert np.array_equal(filled[~hole], before[~hole])


def test_the_command_fills_and_refuses(folder: Path) -> None:
    words = ("fill", "--model", "telea", "--image", str(folder / "photo.png"), "--out", str(folder / "out.png"))
    code, report, _ = lacuna(*words, "--mask", str(folder / "mask.png"), cwd=PROJECT_ROOT)
    assert (code, report["verb"], report["model"]) == (0, "fill", "telea")
    assert_hole_alone_changed(folder, pixels(folder, "out.png"))
    code, report, stderr = lacuna(*words, "--mask", str(folder / "inverted.png"), cwd=PROJECT_ROOT)
    assert code == 2
    assert "looks inverted" in report["error"]
    assert report["error"] in stderr
