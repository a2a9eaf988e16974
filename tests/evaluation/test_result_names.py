"""Photos, results and masks of other systems, paired by the names that their test scripts write."""

from pathlib import Path

import pytest

from pipelines.evaluation.result_names import Matching, match_names
from pipelines.filling.files import find_files
from pipelines.records import UsageError


def match(folder: Path, files: str, results: str = "out", photos: str = "photos", masks: str = "masks") -> Matching:
    """Matching of three arguments below a folder, after these files were made there."""
    for name in files.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    given = {"photos": photos, "results": results, "masks": masks}
    found = {option: find_files(str(folder / name), f"--{option}") for option, name in given.items()}
    return match_names(found["photos"], found["results"], found["masks"])


def short(matching: Matching, folder: Path) -> list[tuple[str, ...]]:
    """Key and paths below the folder of each pair."""
    return [
        (t.key, *(str(Path(uri).relative_to(folder)) for uri in (t.photo, t.result, t.mask))) for t in matching.triples
    ]


@pytest.mark.parametrize(
    ("result", "mask"),
    [
        ("x.png", "x.png"),
        ("x_fake.png", "x_mask.png"),
        ("x_fake_B.png", "x_mask001.png"),
        ("x_out_0.png", "x_masked.png"),
        ("pred_x.png", "mask_x.png"),
        ("x.jpg.png", "x.jpg.png"),
        ("x_synthesized_image.png", "x_input.png"),
        ("x_inpainted.webp", "masked_x.png"),
        ("x-completed.jpg", "x_hole.png"),
    ],
)
def test_names_of_test_scripts_are_known(tmp_path: Path, result: str, mask: str) -> None:
    found = match(tmp_path, f"photos/x.jpg photos/y.jpg out/{result} out/y.png masks/{mask} masks/y.png")
    assert short(found, tmp_path)[0] == ("x", "photos/x.jpg", f"out/{result}", f"masks/{mask}")
    assert (found.missing, found.unused) == ({"results": (), "masks": ()}, {"results": 0, "masks": 0})


def test_patterns_pair_by_the_text_of_their_star(tmp_path: Path) -> None:
    files = " ".join(f"r/{n}_{end}.png" for n in ("a", "b") for end in ("truth", "mask", "out_0", "out_1"))
    found = match(tmp_path, files, "r/*_out_1.png", "r/*_truth.png", "r/*_mask.png")
    assert short(found, tmp_path) == [
        ("a", "r/a_truth.png", "r/a_out_1.png", "r/a_mask.png"),
        ("b", "r/b_truth.png", "r/b_out_1.png", "r/b_mask.png"),
    ]


def test_a_star_pairs_numbers_with_any_words_around_them(tmp_path: Path) -> None:
    found = match(tmp_path, "p/1.jpg p/2.jpg r/img_1.png r/img_2.png r/masked_img_1.png r/masked_img_2.png",
                  "r/img_*.png", "p", "r/masked_img_*.png")  # fmt: skip
    assert short(found, tmp_path)[1] == ("2", "p/2.jpg", "r/img_2.png", "r/masked_img_2.png")


def test_flat_results_belong_to_photos_in_folders_where_names_are_unique(tmp_path: Path) -> None:
    found = match(tmp_path, "photos/a/1.jpg photos/b/2.jpg out/1_fake.png out/2.png masks/1.png masks/b/2.png")
    assert short(found, tmp_path) == [
        ("a/1", "photos/a/1.jpg", "out/1_fake.png", "masks/1.png"),
        ("b/2", "photos/b/2.jpg", "out/2.png", "masks/b/2.png"),
    ]
    shared = match(tmp_path / "s", "photos/a/1.jpg photos/b/1.jpg out/1.png masks/a/1.png masks/b/1.png")
    assert len(shared.missing["results"]) == 2


def test_masks_may_lie_among_photos_and_among_results(tmp_path: Path) -> None:
    found = match(tmp_path, "d/x.png d/x_mask.png out/x.png out/x_mask.png", "out", "d", "d")
    assert short(found, tmp_path) == [("x", "d/x.png", "out/x.png", "d/x_mask.png")]


def test_one_mask_goes_with_all_photos_one_result_does_not(tmp_path: Path) -> None:
    found = match(tmp_path, "photos/x.png photos/y.png out/x.png center.png", "out/x.png", masks="center.png")
    assert short(found, tmp_path) == [("x", "photos/x.png", "out/x.png", "center.png")]
    assert [Path(uri).name for uri in found.missing["results"]] == ["y.png"]


def test_two_results_of_a_photo_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.png has 2 files in --results: .*x_out_0\.png, .*x_out_1\.png; leave one"):
        match(tmp_path, "photos/x.png masks/x.png out/x_out_0.png out/x_out_1.png")


def test_two_masks_of_a_photo_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.png has 2 files in --masks: .*x\.png, .*x_mask\.png"):
        match(tmp_path, "photos/x.png masks/x.png masks/x_mask.png out/x.png")


def test_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 photos share a name: .*x\.jpg, .*x\.png"):
        match(tmp_path, "photos/x.png photos/x.jpg masks/x.png out/x.png")


def test_a_link_to_the_photos_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match=r"--results and --photos name the same files"):
        match(tmp_path, "photos/x.png masks/x.png")
