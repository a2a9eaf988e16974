"""What a result keeps of the photo's file, and how it is written."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from jobs.fill import Arguments, run
from pipelines.filling.encode import Encoding, choose_encoding, encode
from pipelines.filling.photo_files import read_photo
from pipelines.records import UsageError
from tests.filling.test_hole import HEIGHT, WIDTH, encode_image
from tests.making import photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
MAKE, ORIENTATION, EXIF_IFD, SEEN_WIDTH, SEEN_HEIGHT = 0x010F, 0x0112, 0x8769, 0xA002, 0xA003


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mask of photos that are seen as 36x24."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:16, 10:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def fill(folder: Path, data: bytes, out: str, **changes: Any) -> tuple[dict[str, Any], Image.Image]:
    """The report on a photo of these bytes, and what was written."""
    (folder / "photo").write_bytes(data)
    words = {"mask": str(folder / "mask.png"), **changes}
    report = run(Arguments("telea", str(folder / "photo"), str(folder / out), **words))
    picture = Image.open(folder / out)
    picture.load()
    return report, picture


def find_known(folder: Path) -> np.ndarray:
    mask: np.ndarray = np.asarray(Image.open(folder / "mask.png")) == 0
    return mask


@pytest.mark.parametrize("out", ["o.png", "o.jpg", "o.webp"])
def test_a_color_profile_is_kept_unless_it_is_not_wanted(folder: Path, out: str) -> None:
    data = encode_image(photo(1, HEIGHT, WIDTH), "JPEG", icc_profile=SRGB)
    assert fill(folder, data, out)[1].info["icc_profile"] == SRGB
    report, picture = fill(folder, data, out, keep=())
    assert "icc_profile" not in picture.info
    assert report["normalised"] == ["colour profile dropped"]


def test_a_profile_of_other_colors_is_dropped_and_said(folder: Path) -> None:
    report, picture = fill(folder, encode_image(photo(1, HEIGHT, WIDTH), "JPEG", icc_profile=LAB), "o.png")
    assert "icc_profile" not in picture.info
    assert report["normalised"] == ["colour profile dropped: it is for Lab pixels"]


def with_thumbnail() -> bytes:
    """A JPEG stored on its side, with EXIF of two directories: the second holds a picture of the photo unfilled."""
    thumbnail = encode_image(Image.new("RGB", (16, 12), "red"), "JPEG")
    first = struct.pack("<H", 3)
    first += struct.pack("<HHIHH", ORIENTATION, 3, 1, 6, 0)
    first += struct.pack("<HHII", 0x0110, 2, 4, int.from_bytes(b"Cam\0", "little"))
    first += struct.pack("<HHII", EXIF_IFD, 4, 1, 50)
    details = struct.pack("<H", 2) + struct.pack("<HHII", SEEN_WIDTH, 4, 1, HEIGHT)
    details += struct.pack("<HHII", SEEN_HEIGHT, 4, 1, WIDTH) + struct.pack("<I", 0)
    second_at = 50 + len(details)
    second = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, second_at + 30)
    second += struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail)) + struct.pack("<I", 0)
    tiff = b"II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", second_at) + details + second + thumbnail
    return encode_image(photo(1, WIDTH, HEIGHT), "JPEG", exif=b"Exif\0\0" + tiff)


@pytest.mark.parametrize("out", ["o.png", "o.jpg", "o.webp"])
def test_exif_is_kept_on_request_and_turns_nothing_twice(folder: Path, out: str) -> None:
    data = with_thumbnail()
    assert Image.open(io.BytesIO(data)).getexif()[ORIENTATION] == 6
    _, picture = fill(folder, data, out, keep=("exif",))
    exif = picture.getexif()
    assert picture.size == (WIDTH, HEIGHT)
    assert exif[0x0110] == "Cam"
    assert ORIENTATION not in exif
    assert exif.get_ifd(EXIF_IFD) == {SEEN_WIDTH: WIDTH, SEEN_HEIGHT: HEIGHT}
    assert b"\xff\xd8\xff" not in picture.info["exif"]  # no thumbnail of the photo with what was removed
    assert "exif" not in fill(folder, data, f"again-{out}")[1].info


def test_exif_of_a_tiff_is_kept_without_its_layout(folder: Path) -> None:
    exif = Image.Exif()
    exif[MAKE] = "Cam"
    _, picture = fill(folder, encode_image(photo(1, HEIGHT, WIDTH), "TIFF", exif=exif), "o.jpg", keep=("exif",))
    assert dict(picture.getexif()) == {MAKE: "Cam"}


def half_clear() -> tuple[np.ndarray, bytes]:
    """Alpha with a hole where the mask has it and a half transparent row elsewhere, and a photo with it."""
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[8:16, 10:20] = 0
    alpha[20, :20] = 200
    picture = photo(2, HEIGHT, WIDTH).convert("RGBA")
    picture.putalpha(Image.fromarray(alpha))
    return alpha, encode_image(picture)


@pytest.mark.parametrize("out", ["o.png", "o.webp"])
def test_transparency_is_the_hole_and_may_be_kept(folder: Path, out: str) -> None:
    alpha, data = half_clear()
    straight = np.asarray(photo(2, HEIGHT, WIDTH))
    report, picture = fill(folder, data, out, mask=None, hole="alpha")
    assert report["hole_ratio"] == round(80 / (HEIGHT * WIDTH), 4)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture)[find_known(folder)], straight[find_known(folder)])
    _, picture = fill(folder, data, out, mask=None, hole="alpha", keep=("alpha",))
    assert np.array_equal(np.asarray(picture.getchannel("A")), np.where(find_known(folder), alpha, 255))


@pytest.mark.parametrize("out", ["o.png", "o.webp"])
def test_transparency_beside_a_mask_is_kept_with_the_colors_below(folder: Path, out: str) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[18:22] = 0
    picture = photo(2, HEIGHT, WIDTH).convert("RGBA")
    picture.putalpha(Image.fromarray(alpha))
    _, result = fill(folder, encode_image(picture), out, keep=("alpha",))
    assert np.array_equal(np.asarray(result.getchannel("A")), alpha)
    known = find_known(folder)
    assert np.array_equal(np.asarray(result)[known, :3], np.asarray(photo(2, HEIGHT, WIDTH))[known])


def test_webp_is_lossless_unless_a_quality_is_given(folder: Path) -> None:
    data, image = encode_image(photo(1, HEIGHT, WIDTH)), np.asarray(photo(1, HEIGHT, WIDTH))
    report, picture = fill(folder, data, "o.webp")
    assert report["quality"] is None
    assert np.array_equal(np.asarray(picture)[find_known(folder)], image[find_known(folder)])
    report, picture = fill(folder, data, "o.webp", quality=20)
    assert report["quality"] == 20
    assert not np.array_equal(np.asarray(picture)[find_known(folder)], image[find_known(folder)])


def test_jpeg_says_that_known_pixels_change(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report, picture = fill(folder, encode_image(photo(1, HEIGHT, WIDTH)), "o.jpg")
    assert (report["format"], report["quality"], picture.format) == ("jpeg", 95, "JPEG")
    words = "loses a little of every pixel, known ones too; png, and webp without --quality, do not"
    assert f"note: jpeg {words}" in capfd.readouterr().err
    fill(folder, encode_image(photo(1, HEIGHT, WIDTH)), "o.webp", quality=80)
    assert f"note: webp {words}" in capfd.readouterr().err
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(photo(1, HEIGHT, WIDTH)))[find_known(folder)].max() < 8


@pytest.mark.parametrize(
    ("out", "changes", "words"),
    [
        ("o.png", {"quality": 80}, "--quality is for jpeg and webp: a PNG keeps every pixel"),
        ("o.jpg", {"quality": 101}, "--quality is 101: it must be 1 to 100"),
        ("o.jpg", {"keep": ("alpha",)}, "--keep alpha: a JPEG has no transparency; write png or webp"),
        ("o.jpg", {"format": "png"}, r"--format is png, --out is \S+o\.jpg: name a file of that format"),
        ("o.png", {"mask": None}, "give --mask, or --hole alpha for photos whose transparency is the hole"),
        ("o.png", {"hole": "alpha"}, "give --mask, or --hole alpha for photos whose transparency is the hole"),
        ("o.png", {"mask": None, "hole": "alpha"}, r"photo has no transparency for --hole alpha: give its hole"),
        ("o.png", {"size": 0}, "--size is 0: it must be at least 1 px, or `own`"),
        ("o.png", {"num_fills": 0}, "--num-fills is 0: it must be 1 to 1000"),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_written(
    folder: Path, out: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        fill(folder, encode_image(photo(1, HEIGHT, WIDTH)), out, **changes)
    assert not (folder / out).exists()


def test_what_a_format_cannot_hold_is_refused() -> None:
    wide = np.zeros((1, 16_384, 3), np.uint8)
    with pytest.raises(UsageError, match=r"p is 16384 px long, a webp at most 16383 px: write png"):
        encode(wide, choose_encoding("o.webp", None, None, frozenset()), None, None, None, "p")
    with pytest.raises(UsageError, match=r"p has 70000 bytes of EXIF, a JPEG holds 65527: leave exif out of --keep"):
        encode(wide, Encoding("jpeg", 95), None, None, bytes(70_000), "p")


def test_exif_that_nobody_can_read_is_dropped_and_the_photo_filled() -> None:
    broken = encode_image(photo(1, HEIGHT, WIDTH), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    found = read_photo(broken, "p.jpg", frozenset({"exif"}))
    assert found.exif is None
    assert np.array_equal(found.pixels, read_photo(broken, "p.jpg").pixels)
