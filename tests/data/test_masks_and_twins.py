"""Masks are no photos, by name or beside their photo, and a file that is rejected holds no key."""

import itertools
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs import shard
from pipelines.data.build.benchmark import make_natural_photo
from pipelines.data.build.pipeline import add_layer
from pipelines.data.commit.workspace import Plan
from pipelines.data.image.mask_files import is_mask_name, is_mask_reason
from pipelines.manifest import open_dataset
from pipelines.records import UsageError, make_key
from tests.data.building import build_folder, mask, rows_by_source, rows_in_this_process, save
from tests.data.trees import zip_bytes
from tests.making import photo, photo_folder, shard_recipe

pytestmark = pytest.mark.thorough

KINDS = ("photo", "mask", "broken", "small", "none")
FORMATS = {"bmp": "BMP", "jpg": "JPEG", "png": "PNG"}


def picture(kind: str, suffix: str, number: int) -> bytes:
    """A file of the kind; photos of different numbers are different."""
    if kind == "broken":
        return b"no picture %d" % number
    image = {"photo": photo(number), "mask": mask(48, 40 + number), "small": photo(number, 16, 16)}[kind]
    sink = BytesIO()
    image.save(sink, FORMATS[suffix])
    return sink.getvalue()


TWINS = st.fixed_dictionaries({suffix: st.sampled_from(KINDS) for suffix in FORMATS})
NAMED = st.sampled_from(["", "_mask.png", "_mask000.png", "-mask.jpg", "_MASK_1.png", " mask.png", ".mask.png"])
STEMS = st.dictionaries(
    st.sampled_from(["a", "b/c", "b/image0", "images/d", "photos/é"]), st.tuples(TWINS, NAMED), min_size=1
)


def tree_of(stems: dict[str, tuple[dict[str, str], str]]) -> dict[str, bytes]:
    """Path -> bytes."""
    numbers = itertools.count()
    tree: dict[str, bytes] = {}
    for stem, (twins, named) in stems.items():
        for suffix, kind in twins.items():
            if kind != "none":
                tree[f"{stem}.{suffix}"] = picture(kind, suffix, next(numbers))
        if named:
            tree[stem + named] = picture("mask", named.rpartition(".")[2], next(numbers))
    return tree


def owner_of(stem: str, twins: dict[str, str]) -> str | None:
    """Which of the files of a stem is written: the first photo; the first mask where nothing else is beside it."""
    kinds = {kind for kind in twins.values() if kind != "none"}
    for kind in ("photo", "mask") if kinds == {"mask"} else ("photo",):
        if suffixes := sorted(suffix for suffix, own in twins.items() if own == kind):
            return f"{stem}.{suffixes[0]}"
    return None


def plan(root: Path, out: Path, **changes: Any) -> Plan:
    """The small recipe without anything held out."""
    return Plan(str(root), str(out), shard_recipe(holdout=0.0, masks=(), **changes), 0)


def outcomes(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    """Path -> outcome and reason."""
    return {path: (row["outcome"], row["reason"]) for path, row in rows.items()}


@settings(max_examples=15)
@given(stems=STEMS)
def test_the_written_keys_are_those_of_the_files_that_become_samples(
    stems: dict[str, tuple[dict[str, str], str]],
) -> None:
    if not (tree := tree_of(stems)):
        return
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for path, data in tree.items():
            (base / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            (base / "in" / path).write_bytes(data)
        (base / "in.zip").write_bytes(zip_bytes(dict(reversed(tree.items()))))
        rows = rows_in_this_process(plan(base / "in", base / "out"))
        packed = rows_in_this_process(plan(base / "in.zip", base / "packed"))
    assert outcomes(packed) == outcomes(rows)
    assert rows.keys() == tree.keys()
    owners = {owner for stem, (twins, _) in stems.items() if (owner := owner_of(stem, twins))}
    assert {path for path, row in rows.items() if row["outcome"] == "written"} == owners
    assert {row["key"] for row in rows.values() if row["outcome"] == "written"} == {make_key(path) for path in owners}
    masks = {path for path, row in rows.items() if is_mask_reason(row["reason"])}
    assert masks >= {stem + named for stem, (_, named) in stems.items() if named}
    for stem, (twins, _) in stems.items():
        photos = {f"{stem}.{suffix}" for suffix, kind in twins.items() if kind not in ("mask", "none")}
        flat = {f"{stem}.{suffix}" for suffix, kind in twins.items() if kind == "mask"}
        assert not masks & photos
        if photos:
            assert flat <= masks
            assert {rows[path]["reason"] for path in flat} <= {f"a mask beside its photo {min(photos)}"}


def test_a_rejected_file_holds_no_key(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    photo(1).save(root / "a.gif", save_all=True, append_images=[photo(2)])
    save(photo(3), root / "a.jpg")
    save(photo(4, 16, 16), root / "c.jpg")
    save(photo(5), root / "c.png")
    save(mask(), root / "x.jpg")
    save(photo(6), root / "x.png")
    save(photo(7), root / "y.jpg")
    save(photo(8), root / "y.png")
    verdicts = outcomes(rows_in_this_process(plan(root, tmp_path / "out")))
    assert "animated" in str(verdicts.pop("a.gif")[1])
    assert verdicts == {
        "a.jpg": ("written", None),
        "c.jpg": ("rejected", "16x16 is smaller than 32 px on a side"),
        "c.png": ("written", None),
        "x.jpg": ("rejected", "a mask beside its photo x.png"),
        "x.png": ("written", None),
        "y.jpg": ("written", None),
        "y.png": ("rejected", "key collision: y"),
    }


def test_a_mask_does_not_stand_in_for_its_damaged_photo(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/x.jpg")
    whole = (tmp_path / "in/x.jpg").read_bytes()
    (tmp_path / "in/x.jpg").write_bytes(whole[:30])
    (tmp_path / "in/x.txt").write_text("what it shows")
    save(mask(), tmp_path / "in/x.png")
    save(photo(2), tmp_path / "in/z.png")
    (tmp_path / "in/z.txt").write_text("what it shows")
    verdicts = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "out")))
    assert {path for path, (outcome, _) in verdicts.items() if outcome == "written"} == {"z.png"}
    assert verdicts["x.png"] == ("rejected", "a mask beside its photo x.jpg")


@pytest.mark.parametrize(
    ("photo_path", "mask_path"),
    [
        ("image0.png", "image0_mask000.png"),
        ("image1_crop000.png", "image1_crop000_mask000.png"),
        ("x.jpg", "x_mask.png"),
        ("x.jpg", "x-mask.png"),
        ("x.jpg", "x_mask_0.png"),
        ("x.jpg", "x_Mask.PNG"),
        ("x.jpg", "mask_x.png"),
        ("x.jpg", "x.mask.png"),
        ("images/x.jpg", "masks/x.png"),
        ("photos/deep/x.jpg", "masks/deep/x.png"),
        ("Images/x.jpg", "Masks/x_mask.png"),
        ("x.jpg", "mask/x.png"),
        ("test/JPEGImages/x.jpg", "test/mask/x.png"),
    ],
)
def test_a_name_and_a_photo_of_that_name_make_a_mask_whatever_its_colors(
    photo_path: str, mask_path: str, tmp_path: Path
) -> None:
    save(photo(1), tmp_path / "in" / photo_path)
    save(photo(2).convert("L"), tmp_path / "in" / mask_path)
    verdicts = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "out")))
    assert verdicts == {
        photo_path: ("written", None),
        mask_path: ("rejected", f"a mask of {photo_path} by its name"),
    }


@pytest.mark.parametrize(
    ("photo_path", "mask_path"),
    [("john.jpg", "john_mask.jpg"), ("00000.png", "00000_Mask.jpg"), ("images/1.jpg", "mask/1.jpg")],
)
def test_a_mask_by_its_name_with_the_colors_of_a_photo_is_in_doubt_and_counts(
    photo_path: str, mask_path: str, tmp_path: Path
) -> None:
    save(photo(1), tmp_path / "in" / photo_path)
    save(Image.fromarray(make_natural_photo(64, 64)), tmp_path / "in" / mask_path)
    verdicts = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "out")))
    outcome, reason = verdicts.pop(mask_path)
    assert verdicts == {photo_path: ("written", None)}
    assert outcome == "rejected"
    assert str(reason).startswith(f"in doubt: a mask of {photo_path} by its name, a photo by its colors")
    assert not is_mask_reason(reason)
    taken = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "taken", masks_as_photos=True)))
    assert {outcome for outcome, _ in taken.values()} == {"written"}


def test_a_text_beside_a_photo_of_a_mask_is_no_photo_of_it(tmp_path: Path) -> None:
    for side, suffix in enumerate(("txt", "json", "xml"), 64):
        save(Image.fromarray(make_natural_photo(side, 64)), tmp_path / f"in/{suffix}/carnival_mask.png")
        (tmp_path / f"in/{suffix}/carnival.{suffix}").write_text("Venice")
    verdicts = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "out")))
    photos = {path: verdict for path, verdict in verdicts.items() if path.endswith("png")}
    assert photos == dict.fromkeys(photos, ("written", None))


@pytest.mark.parametrize(
    ("photo_path", "mask_path"),
    [
        ("000.jpg", "000_m.png"),
        ("x.png", "x_hole.png"),
        ("x.jpg", "x_matte0.png"),
        ("images/a/x.jpg", "labels/a/x.png"),
        ("JPEGImages/x.jpg", "SegmentationClass/x.png"),
        ("JPEGImages/x.jpg", "Masks/x.png"),
        ("IMAGES/x.jpg", "MASKS/x.png"),
        ("x.jpg", "gt/x.png"),
    ],
)
def test_a_name_that_hints_at_a_mask_makes_one_of_flat_colors_alone(
    photo_path: str, mask_path: str, tmp_path: Path
) -> None:
    save(photo(1), tmp_path / "in" / photo_path)
    save(mask(), tmp_path / "in" / mask_path)
    save(photo(2), tmp_path / "other" / photo_path)
    save(
        Image.fromarray(make_natural_photo(64, 64)),
        tmp_path / "other" / mask_path.replace("ask", "atte").replace("ASK", "ATTE"),
    )
    save(mask(48, 50), tmp_path / "other/lone_m.png")
    verdicts = outcomes(rows_in_this_process(plan(tmp_path / "in", tmp_path / "out")))
    assert verdicts[mask_path] == ("rejected", f"a mask of {photo_path} by its name")
    assert verdicts[photo_path] == ("written", None)
    others = outcomes(rows_in_this_process(plan(tmp_path / "other", tmp_path / "out2")))
    assert {outcome for outcome, _ in others.values()} == {"written"}


def test_of_lone_files_named_like_masks_the_flat_ones_are_masks(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save(photo(1), root / "masks/carnival.jpg")
    save(photo(2), root / "ski_mask/0001.jpg")
    save(photo(3), root / "ski/0001.jpg")
    save(photo(4), root / "unmasked.png")
    for number, name in enumerate(("masks/hole.png", "train_masks/1.jpg", "y_mask.bmp", "mask001.png")):
        save(mask(48, 41 + number), root / name)
    save(photo(5), root / "HQ-mask-anno/0/7_face.jpg")
    save(mask(48, 51), root / "HQ-mask-anno/0/7_hair.png")
    save(mask(48, 50), root / "document.png")  # two levels of gray make no mask of a name that says nothing
    verdicts = outcomes(rows_in_this_process(plan(root, tmp_path / "out")))
    photos = {
        "masks/carnival.jpg",
        "ski_mask/0001.jpg",
        "ski/0001.jpg",
        "unmasked.png",
        "document.png",
        "HQ-mask-anno/0/7_face.jpg",
    }
    assert {path for path, (outcome, _) in verdicts.items() if outcome == "written"} == photos
    assert {reason for _, reason in verdicts.values()} == {None, "a mask by its name and its flat colors"}


def test_a_photo_in_a_folder_of_masks_keeps_its_maps(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/mask/x.jpg")
    save(mask(), tmp_path / "in/mask/x_seg.png")
    rows = rows_in_this_process(plan(tmp_path / "in", tmp_path / "out", planes=("seg",)))
    assert rows["mask/x.jpg"]["planes"] == [{"name": "seg", "reason": None}]
    assert rows.keys() == {"mask/x.jpg"}


def test_who_says_so_has_masks_for_photos(tmp_path: Path) -> None:
    root = tmp_path / "in"
    save(photo(1), root / "x.png")
    for number, name in enumerate(("x.bmp", "x_mask.png", "masks/y.png")):
        save(mask(48, 41 + number), root / name)
    rows = outcomes(rows_in_this_process(plan(root, tmp_path / "out", masks_as_photos=True)))
    assert rows == {
        "x.bmp": ("written", None), "x.png": ("rejected", "key collision: x"),
        "x_mask.png": ("written", None), "masks/y.png": ("written", None),
    }  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_masks_are_counted_and_said_and_do_not_stop_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photo_folder(tmp_path / "in", 12)
    for number, path in enumerate(sorted(root.glob("*/*"))):
        save(mask(48, 41 + number), path.with_name(f"{path.stem}_mask.png"))
    words = ["--source", "folder", "--root", str(root), "--out", str(tmp_path / "out"), "--masks"]
    report = shard.run(shard.parse(words))
    counts = {"num_inputs": 24, "num_written": 12, "num_rejected": 12, "num_masks": 12, "num_system_files": 0}
    assert {name: report[name] for name in counts} == counts
    assert "left out as masks: 12 (--masks-as-photos stores them as photos)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="1 of 1 keys are not in"):
        shard.run(shard.parse(["--out", str(tmp_path / "out"), "--remove", "class0/0000_mask"]))
    assert open_dataset(str(tmp_path / "out")).commit["ledger"]["num_rejected"] == 12


@pytest.mark.usefixtures("ray_cluster")
def test_a_folder_of_masks_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for number in range(3):
        save(mask(48, 41 + number), tmp_path / f"in/masks/{number}.png")
    with pytest.raises(
        UsageError, match=r"3 of 3 files .* 3 look like masks, which --masks-as-photos takes for photos"
    ):
        build_folder(tmp_path / "in", tmp_path / "out")
    taken = build_folder(tmp_path / "in", tmp_path / "out", masks_as_photos=True)
    assert taken.commit["ledger"]["num_written"] == 3


@pytest.mark.usefixtures("ray_cluster")
def test_a_key_that_was_refused_is_free_for_a_later_layer(tmp_path: Path) -> None:
    save(photo(1), tmp_path / "in/a.jpg")
    save(photo(2, 16, 16), tmp_path / "in/c.jpg")
    save(photo(3), tmp_path / "late/c.png")
    save(photo(4), tmp_path / "late/a.png")
    base = build_folder(tmp_path / "in", tmp_path / "out", holdout=0.0)
    late = Plan(str(tmp_path / "late"), base.uri, shard_recipe(holdout=0.0), 0)
    rows = outcomes(rows_by_source(add_layer(late, lambda *_: None)))
    assert rows["c.png"] == ("written", None)
    assert rows["a.png"] == ("rejected", "key collision: a")


@pytest.mark.parametrize("name", ["mask.png", "a/masks/b/c.png", "with_mask/1.png", "x_mask_crop.png", "MASK-1.gif"])
def test_names_of_masks(name: str) -> None:
    assert is_mask_name(name)


@pytest.mark.parametrize("name", ["masked.png", "damask/1.png", "a_masking.png", "face_mask_set/images/1.png", "x.png"])
def test_other_names(name: str) -> None:
    assert not is_mask_name(name)
