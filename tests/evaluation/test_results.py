"""Folders of another system: equal pairs from any convention, and what is refused before any scoring."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from infra import storage
from pipelines.evaluation.result_pairs import ResultPair
from pipelines.evaluation.results import Missing, ResultSet, open_results, read_result_chunk
from pipelines.records import CorruptDataError, UsageError
from tests.evaluation.foreign_results import (
    CONVENTIONS,
    draw_mask,
    draw_photo,
    fill_blurred,
    save,
    to_black,
    to_white,
    write_system,
)


def open_folder(folder: Path, hole: str = "auto", missing: Missing = "refuse") -> ResultSet:
    return open_results(str(folder / "out"), str(folder / "photos"), str(folder / "masks"), hole, missing)


def read_all(results: ResultSet) -> list[ResultPair]:
    return [pair for chunk in range(results.num_chunks) for pair in read_result_chunk(results, chunk)]


def assert_equal_pairs(one: list[ResultPair], other: list[ResultPair]) -> None:
    assert [(p.key, p.spec, p.change) for p in one] == [(p.key, p.spec, p.change) for p in other]
    for ours, theirs in zip(one, other, strict=True):
        for name in ("image", "mask", "given", "composed"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("hole", CONVENTIONS)
def test_any_convention_gives_the_same_pairs(tmp_path: Path, hole: str) -> None:
    write_system(tmp_path, 18, hole)
    results = open_folder(tmp_path, hole)
    assert (results.num_chunks, len(results.pairs), results.skipped) == (2, 18, {})
    for number, pair in enumerate(read_all(results)):
        photo, mask = draw_photo(number), draw_mask(number)
        assert pair.key == f"{number:03d}"
        np.testing.assert_array_equal(pair.mask, mask)
        np.testing.assert_array_equal(pair.image, photo)
        np.testing.assert_array_equal(pair.composed, fill_blurred(photo, mask))
        assert pair.change == (0, 0.0, 0.0)


@pytest.mark.parametrize(("hole", "words"), [("white", "in white"), ("black", "in black"), ("alpha", "transparent")])
def test_auto_decides_for_the_folder_and_says_why(tmp_path: Path, hole: str, words: str) -> None:
    write_system(tmp_path, 5, hole)
    choice = open_folder(tmp_path).hole
    assert choice.color == hole
    assert words in choice.evidence
    assert_equal_pairs(read_all(open_folder(tmp_path)), read_all(open_folder(tmp_path, hole)))


def test_auto_asks_for_the_color_of_masked_inputs_and_names_one(tmp_path: Path) -> None:
    write_system(tmp_path, 3, "#ff00fe")
    with pytest.raises(UsageError, match=r"color pictures: .*000\.png; name the color .* --hole #ff00fe"):
        open_folder(tmp_path)


def test_known_pixels_that_changed_are_counted_and_composed_away(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    photo, mask = draw_photo(0), draw_mask(0)
    raw = fill_blurred(photo, mask)
    raw[0, :10] += 6
    raw[39, 51, 2] += 20
    save(tmp_path / "out/000.png", raw)
    (pair,) = read_all(open_folder(tmp_path))
    known = int((mask == 0).sum())
    assert pair.change.max_levels == 20
    assert pair.change.share == pytest.approx(11 / known)
    assert pair.change.mean_levels == pytest.approx((10 * 3 * 6 + 20) / known / 3)
    np.testing.assert_array_equal(pair.given, raw)
    np.testing.assert_array_equal(pair.composed, fill_blurred(photo, mask))


def test_psnr_of_composed_pictures_is_that_of_their_arrays(tmp_path: Path) -> None:
    write_system(tmp_path, 2, "black")
    for number, pair in enumerate(read_all(open_folder(tmp_path))):
        expected = peak_signal_noise_ratio(draw_photo(number), fill_blurred(draw_photo(number), draw_mask(number)))
        assert peak_signal_noise_ratio(pair.image, pair.composed) == expected


def test_a_digest_follows_names_and_bytes_not_the_folder(tmp_path: Path) -> None:
    write_system(tmp_path / "a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, same = (open_folder(tmp_path / name).inputs_sha256 for name in "ab")
    save(tmp_path / "b/out/001.png", draw_photo(77))
    assert one == same != open_folder(tmp_path / "b").inputs_sha256
    roles = {"photo": "photos", "result": "out", "mask": "masks"}
    lines = sorted(
        f"{role} {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for role, folder in roles.items()
        for path in (tmp_path / "a" / folder).iterdir()
    )
    assert one == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_photos_without_result_or_mask_are_named_or_counted(tmp_path: Path) -> None:
    write_system(tmp_path, 5)
    (tmp_path / "out/003.png").unlink()
    (tmp_path / "masks/001.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 5 photos have no file in --results .*003\.png; 1 of 5 .*001\.png"):
        open_folder(tmp_path)
    results = open_folder(tmp_path, missing="skip")
    assert [key for key, _ in results.pairs] == ["000", "002", "004"]
    assert results.as_json()["skipped"] == {"results": 1, "masks": 1}
    assert results.unused == {"results": 1, "masks": 1}


@pytest.mark.parametrize("folder", ["out", "masks"])
def test_pictures_of_another_size_are_named_with_both_sizes_or_counted(tmp_path: Path, folder: str) -> None:
    write_system(tmp_path, 3)
    save(tmp_path / folder / "001.png", draw_photo(1, 20, 26))
    with pytest.raises(
        UsageError, match=r"1 of 3 photos .* 001\.png is 26x20, its photo 52x40".replace(" 001", " .*001")
    ):
        open_folder(tmp_path)
    assert open_folder(tmp_path, missing="skip").as_json()["skipped"] == {"other size": 1}


def test_nothing_but_missing_results_is_refused_even_with_skip(tmp_path: Path) -> None:
    write_system(tmp_path, 2, result="other{}.png")
    with pytest.raises(UsageError, match=r"2 of 2 photos have no file in --results"):
        open_folder(tmp_path, missing="skip")


def test_photos_given_as_results_are_refused_under_any_name(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    photos, masks = str(tmp_path / "photos"), str(tmp_path / "masks")
    with pytest.raises(UsageError, match=r"--results and --photos name the same files"):
        open_results(photos, photos, masks)
    with pytest.raises(UsageError, match=r"--photos and --masks name the same files"):
        open_results(str(tmp_path / "out"), photos, photos)
    shutil.copytree(photos, tmp_path / "copies")
    with pytest.raises(UsageError, match=r"2 of 2 results have the bytes of their own photo or mask"):
        open_results(str(tmp_path / "copies"), photos, masks)


def test_damaged_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    write_system(tmp_path, 4)
    whole = (tmp_path / "out/001.png").read_bytes()
    (tmp_path / "out/001.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out/002.png").write_bytes(b"")
    (tmp_path / "out/003.png").write_bytes(b"not a picture")
    with pytest.raises(
        UsageError, match=r"(?s)--results: 3 of 4 files .*001\.png \(cut.*002\.png \(empty.*003\.png \(not"
    ):
        open_folder(tmp_path)


def test_an_empty_folder_and_a_folder_of_arrays_are_refused(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out/000.npy", draw_photo(0))
    with pytest.raises(UsageError, match=r"--results: no pictures in .*their names must end in \.jpg"):
        open_folder(tmp_path)


def test_a_result_that_changes_after_it_was_inspected_stops_the_scoring(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    results = open_folder(tmp_path)
    save(tmp_path / "out/001.png", draw_photo(9))
    with pytest.raises(CorruptDataError, match=r"001\.png changed during its evaluation"):
        read_all(results)


def test_gray_16_bit_and_opaque_alpha_results_are_converted_and_noted(tmp_path: Path) -> None:
    write_system(tmp_path, 3)
    gray = fill_blurred(draw_photo(0), draw_mask(0))[..., 1]
    save(tmp_path / "out/000.png", gray)
    save(tmp_path / "out/001.png", (gray.astype(np.uint16) * 257))
    save(tmp_path / "out/002.png", np.dstack([draw_photo(5), np.full((40, 52), 255, np.uint8)]))
    pairs = read_all(open_folder(tmp_path, "white"))
    np.testing.assert_array_equal(pairs[0].given, np.repeat(gray[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(pairs[1].given, pairs[0].given)
    np.testing.assert_array_equal(pairs[2].given, draw_photo(5))
    gray_note = "result: gray, its photo is in color"
    assert [pair.notes for pair in pairs] == [
        (gray_note,), ("result: I;16 to RGB", gray_note), ("result: opaque alpha channel dropped",),
    ]  # fmt: skip


def test_transparent_and_float_results_are_refused_with_what_to_do(tmp_path: Path) -> None:
    write_system(tmp_path, 2)
    half = np.full((40, 52), 255, np.uint8)
    half[:20] = 0
    save(tmp_path / "out/000.png", np.dstack([draw_photo(0), half]))
    with pytest.raises(UsageError, match=r"000\.png is 50% transparent: save it as RGB"):
        read_all(open_folder(tmp_path, "white"))
    (tmp_path / "out/000.png").unlink()
    Image.fromarray(np.ones((40, 52), np.float32)).save(tmp_path / "out/000.tif")
    with pytest.raises(UsageError, match=r"000\.tif \(.*mode F.* save it as PNG"):
        open_folder(tmp_path, "white")


def test_photos_too_small_for_a_window_are_named(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", draw_photo(0, 10, 30))
    save(tmp_path / "out/a.png", draw_photo(1, 10, 30))
    save(tmp_path / "masks/a.png", to_white(draw_photo(0), draw_mask(0, 10, 30)))
    with pytest.raises(UsageError, match=r"1 photos have a side under 11 px"):
        open_folder(tmp_path, "white")


def test_a_photo_turned_by_exif_gets_mask_and_result_as_they_fit(tmp_path: Path) -> None:
    seen, mask = draw_photo(0, 40, 52), draw_mask(0, 40, 52)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(seen))
    save(tmp_path / "photos/a.png", stored, exif=exif)
    save(tmp_path / "out/a.png", fill_blurred(seen, mask))
    save(tmp_path / "masks/a.png", to_black(stored, np.ascontiguousarray(np.rot90(mask))))
    (pair,) = read_all(open_folder(tmp_path))
    np.testing.assert_array_equal(pair.image, seen)
    np.testing.assert_array_equal(pair.mask, mask)
    np.testing.assert_array_equal(pair.composed, fill_blurred(seen, mask))


def test_a_square_photo_turned_by_exif_is_refused_as_nothing_decides(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "photos/a.png", draw_photo(0), exif=exif)
    save(tmp_path / "out/a.png", draw_photo(1))
    save(tmp_path / "masks/a.png", to_white(draw_photo(0), draw_mask(0)))
    with pytest.raises(UsageError, match=r"2 files may lie .* Save the photos upright"):
        open_folder(tmp_path)


def test_folders_on_a_store_give_the_pairs_of_folders_on_a_disk(tmp_path: Path) -> None:
    write_system(tmp_path, 3, "black", "{}_fake.png")
    root = f"memory://{tmp_path.name}"
    for path in tmp_path.rglob("*.png"):
        storage.publish(f"{root}/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    on_disk = open_folder(tmp_path)
    stored = open_results(f"{root}/out/*_fake.png", f"{root}/photos", f"{root}/masks")
    assert_equal_pairs(read_all(on_disk), read_all(stored))
    assert stored.inputs_sha256 == on_disk.inputs_sha256


def test_a_chunk_sent_to_a_task_holds_its_own_pairs_alone(tmp_path: Path) -> None:
    write_system(tmp_path, 18)
    results = open_folder(tmp_path)
    sent = pickle.loads(pickle.dumps(results.select_chunk(1)))
    assert [key for key, _ in sent.pairs] == ["016", "017"]
    assert_equal_pairs(list(read_result_chunk(sent, 0)), list(read_result_chunk(results, 1)))


def test_damaged_pixels_are_named_before_any_pair_is_read(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    data = bytearray((tmp_path / "out/000.png").read_bytes())
    data[200:260] = bytes(60)
    (tmp_path / "out/000.png").write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"out/000\.png \(cut or damaged"):
        open_folder(tmp_path, "white")


def test_a_perfect_result_in_another_file_is_no_inverted_mask(tmp_path: Path) -> None:
    write_system(tmp_path, 1)
    save(tmp_path / "out/000.png", draw_photo(0), compress_level=1)
    (pair,) = read_all(open_folder(tmp_path, "white"))
    np.testing.assert_array_equal(pair.composed, pair.image)
    assert pair.change == (0, 0.0, 0.0)
