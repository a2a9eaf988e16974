"""Photos and masks paired by name: what belongs together, and what is refused before any work."""

from pathlib import Path

import pytest

from pipelines.filling.files import find_files
from pipelines.filling.pairing import Job, count_unused, pair
from pipelines.records import UsageError


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def pairs(image: object, **others: object) -> tuple[Job, ...]:
    files = {option: find_files(str(given), f"--{option}") for option, given in others.items()}
    return pair(find_files(str(image), "--image"), files)


def short(jobs: tuple[Job, ...], folder: Path, option: str = "mask") -> dict[str, str]:
    """Path of the mask by path of the photo, both below the folder."""
    return {str(Path(j.image).relative_to(folder)): str(Path(j.inputs[option]).relative_to(folder)) for j in jobs}


def test_folders_are_paired_by_path_without_suffix(tmp_path: Path) -> None:
    tree(tmp_path, "p/a/1.jpg", "p/a/2.png", "p/b/1.jpeg", "p/notes.txt", "p/a/._1.jpg")
    tree(tmp_path, "m/a/1.png", "m/a/2_mask.png", "m/b/1_mask000.png", "p/c.jpg", "m/c.jpg.png")
    jobs = pairs(tmp_path / "p", mask=tmp_path / "m")
    assert short(jobs, tmp_path) == {
        "p/a/1.jpg": "m/a/1.png",
        "p/a/2.png": "m/a/2_mask.png",
        "p/b/1.jpeg": "m/b/1_mask000.png",
        "p/c.jpg": "m/c.jpg.png",
    }
    assert [job.name for job in jobs] == ["c", "a/1", "a/2", "b/1"]


def test_masks_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    tree(tmp_path, "x.png", "x_mask.png", "y.jpg", "y_mask001.png", "y_seg.png", "images/z.jpg", "masks/z.png")
    jobs = pairs(tmp_path, mask=tmp_path)
    assert short(jobs, tmp_path) == {"x.png": "x_mask.png", "y.jpg": "y_mask001.png", "images/z.jpg": "masks/z.png"}


def test_a_mask_of_its_own_stem_goes_before_one_whose_name_speaks_of_it(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "p/a_m.jpg", "m/a.png", "m/a_m.png")
    assert short(pairs(tmp_path / "p", mask=tmp_path / "m"), tmp_path) == {
        "p/a.jpg": "m/a.png",
        "p/a_m.jpg": "m/a_m.png",
    }


def test_patterns_choose_photos_and_masks_of_one_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png")
    jobs = pairs(tmp_path / "*.jpg", mask=tmp_path / "*.png")
    assert short(jobs, tmp_path) == {"a.jpg": "a.png", "b.jpg": "b.png"}


def test_one_mask_goes_with_all_photos(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "p/b.jpg", "hole.png")
    jobs = pairs(tmp_path / "p", mask=tmp_path / "hole.png")
    assert set(short(jobs, tmp_path).values()) == {"hole.png"}


def test_sketches_and_maps_are_paired_by_their_own_words(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "p/b.jpg", "s/a_sketch.png", "s/b.png", "g/a_seg.png", "g/b_segmentation.png", "m.png")
    jobs = pairs(tmp_path / "p", mask=tmp_path / "m.png", sketch=tmp_path / "s", segmentation=tmp_path / "g")
    assert short(jobs, tmp_path, "sketch") == {"p/a.jpg": "s/a_sketch.png", "p/b.jpg": "s/b.png"}
    assert short(jobs, tmp_path, "segmentation") == {"p/a.jpg": "g/a_seg.png", "p/b.jpg": "g/b_segmentation.png"}


def test_photos_without_a_mask_are_named(tmp_path: Path) -> None:
    tree(tmp_path, *(f"p/{n}.jpg" for n in range(9)), "m/0.png")
    with pytest.raises(
        UsageError, match=r"8 of 9 photos have no file for --mask: \S+/p/1\.jpg, .* and 3 more; name it as"
    ):
        pairs(tmp_path / "p", mask=tmp_path / "m")


def test_a_photo_with_two_masks_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "m/a_mask0.png", "m/a_mask1.png")
    with pytest.raises(UsageError, match=r"p/a\.jpg has 2 files for --mask: .*a_mask0\.png, .*a_mask1\.png; leave one"):
        pairs(tmp_path / "p", mask=tmp_path / "m")


def test_two_photos_of_one_result_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "p/a.png", "p/b.jpg", "m.png")
    with pytest.raises(UsageError, match=r"results of \S+/p/a\.jpg, \S+/p/a\.png would have one name"):
        pairs(tmp_path / "p", mask=tmp_path / "m.png")


def test_masks_without_a_photo_are_counted(tmp_path: Path) -> None:
    tree(tmp_path, "p/a.jpg", "m/a.png", "m/c.png", "m/d.png")
    masks = {"mask": find_files(str(tmp_path / "m"), "--mask")}
    assert count_unused(pair(find_files(str(tmp_path / "p"), "--image"), masks), masks) == {"mask": 2}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("empty", r"--image: no pictures in \S+/empty: their names must end in \.jpg"),
        ("*.tiff", r"--image: no picture matches \S+/\*\.tiff"),
        ("nothing.png", r"no file at \S+/nothing\.png: give --image a file, a folder, or a pattern"),
    ],
)
def test_arguments_that_name_no_picture_are_refused(tmp_path: Path, given: str, words: str) -> None:
    tree(tmp_path, "empty/notes.txt", "a.jpg")
    with pytest.raises(UsageError, match=words):
        find_files(str(tmp_path / given), "--image")


def test_names_with_the_signs_of_patterns_are_names_first(tmp_path: Path) -> None:
    tree(tmp_path, "a [1]/b[2].jpg", "a [1]/c.jpg", "a 1/d.jpg")
    assert find_files(str(tmp_path / "a [1]" / "b[2].jpg"), "--image").names == ("b[2].jpg",)
    assert find_files(str(tmp_path / "a [1]" / "*.jpg"), "--image").names == ("b[2].jpg", "c.jpg")
    assert find_files(str(tmp_path / "a*" / "*.jpg"), "--image").names == ("a 1/d.jpg", "a [1]/b[2].jpg", "a [1]/c.jpg")


def test_where_results_would_be_photos_of_the_next_run(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b/c.jpg")
    folder, flat, deep = (find_files(f"{tmp_path}{end}", "--image") for end in ("", "/*.jpg", "/**/*.jpg"))
    assert [f.may_hold(str(tmp_path)) for f in (folder, flat, deep)] == [True, True, True]
    assert [f.may_hold(f"{tmp_path}/out") for f in (folder, flat, deep)] == [True, False, True]
    assert not any(f.may_hold(f"{tmp_path}-out") for f in (folder, flat, deep))
    (tmp_path.parent / "link").symlink_to(tmp_path)
    assert folder.may_hold(str(tmp_path.parent / "link" / "out"))
