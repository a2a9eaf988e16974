"""Planes and masks in shards: beside their photo, as they were, told in its note, and read by every reader."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from pipelines.data.build.pipeline import build_dataset
from pipelines.data.commit.workspace import Plan
from pipelines.data.dataset.verify import verify_dataset
from pipelines.manifest import Dataset
from pipelines.masks.spec import parse_mask_spec
from pipelines.records import make_key, sha256_hex
from pipelines.stream.reading import ShardReader, StoredSample
from tests.data.trees import PACKERS
from tests.making import files_of, photo, photo_folder, scene_folder, shard_recipe

pytestmark = pytest.mark.usefixtures("ray_cluster")

TRAINING, VALIDATION = (f"ADE20K_2016_07_26/images/{part}/a" for part in ("training", "validation"))
SMALL, TEXT, NONE = (f"{TRAINING}/scene{n % 2}/ADE_train_{n:08d}" for n in (2, 3, 4))


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos with their maps, but for one of another size, one that is text, and one that is not there."""
    root = scene_folder(tmp_path_factory.mktemp("scenes"), 8)
    Image.new("L", (20, 24)).save(root / f"{SMALL}_seg.png")
    (root / f"{TEXT}_seg.png").write_text("no picture")
    (root / f"{NONE}_seg.png").unlink()
    return root


def built(root: Path, out: Path, **changes: Any) -> Dataset:
    """The scenes with their maps and drawn masks."""
    scenes: dict[str, Any] = {"source": "ade20k-aim", "planes": ("seg",), "mask_pixels": True, "holdout": 0.0}
    scenes |= {"splits": "ade20k"} if changes.get("source") is None else {}
    return build_dataset(Plan(str(root), str(out), shard_recipe(**scenes | changes), 0), silent)


@pytest.fixture(scope="module")
def dataset(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Their dataset."""
    return built(scenes, tmp_path_factory.mktemp("planes") / "data", masks_per_family=2)


def stored(dataset: Dataset) -> dict[str, StoredSample]:
    """Every sample by its source, as our own reader gives it."""
    samples: dict[str, StoredSample] = {}
    for split in sorted({shard.split for shard in dataset.shards if shard.num_samples}):
        reader = ShardReader((dataset,), split)
        places = [(shard, n) for shard, count in enumerate(reader.counts) for n in range(count)]
        samples |= {sample.note["source"]: sample for sample in (reader.read(*place) for place in places)}
    return samples


def by_webdataset(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Every sample by its key, as plain webdataset gives it."""
    urls = [f"{dataset.uri}/{shard.file}" for shard in dataset.shards]
    return {s["__key__"]: s for s in wds.WebDataset(urls, shardshuffle=False, empty_check=False)}


def test_every_photo_is_written_whatever_its_map_is(dataset: Dataset) -> None:
    ledger = dataset.commit["ledger"]
    assert (ledger["num_inputs"], ledger["num_written"]) == (12, 12)
    assert verify_dataset(dataset.uri)[1] == []


def test_a_map_lies_beside_its_photo_byte_for_byte(scenes: Path, dataset: Dataset) -> None:
    plain = by_webdataset(dataset)
    with_maps = {source: s for source, s in stored(dataset).items() if "seg" in s.planes}
    assert len(with_maps) == 9
    for source, sample in with_maps.items():
        path = source.replace(".jpg", "_seg.png")
        raw = (scenes / path).read_bytes()
        assert sample.note["planes"] == {"seg": {"source": path, "source_sha256": sha256_hex(raw)}}
        assert sample.planes["seg"] == plain[make_key(source)]["seg.png"] == raw


@pytest.mark.parametrize(
    ("stem", "reason"), [(SMALL, "20x24, its photo 40x48"), (TEXT, "not an image of a known format")]
)
def test_a_map_that_does_not_fit_is_named_in_the_note_of_its_photo(dataset: Dataset, stem: str, reason: str) -> None:
    sample = stored(dataset)[f"{stem}.jpg"]
    told = sample.note["planes"]["seg"]
    assert (told["source"], "source_sha256" in told) == (f"{stem}_seg.png", False)
    assert reason in told["rejected"]
    assert sample.planes == {}
    assert "seg.png" not in by_webdataset(dataset)[sample.key]


def test_a_photo_without_a_map_says_nothing_of_one(dataset: Dataset) -> None:
    sample = stored(dataset)[f"{NONE}.jpg"]
    assert (sample.planes, "planes" in sample.note) == ({}, False)


def test_masks_are_stored_as_their_recipes_draw_them(dataset: Dataset) -> None:
    plain, held_out = by_webdataset(dataset), 0
    for source, sample in stored(dataset).items():
        masks = {name: data for name, data in sample.planes.items() if name != "seg"}
        lines = sample.note["masks"] if source.startswith(VALIDATION) else []
        assert list(masks) == ["mask", *(f"mask{n}" for n in range(2, len(lines) + 1))][: len(lines)]
        for (name, png), line in zip(masks.items(), lines, strict=True):
            assert png[24:26] == b"\x01\x00", "not grey of one bit"
            with Image.open(io.BytesIO(png)) as image:
                assert np.array_equal(np.asarray(image, np.uint8), parse_mask_spec(line).draw())
            assert plain[sample.key][f"{name}.png"] == png
        held_out += bool(lines)
    assert (held_out, len(lines)) == (4, 6)


def test_planes_that_nobody_asked_for_are_not_stored(scenes: Path, tmp_path: Path) -> None:
    samples = stored(built(scenes, tmp_path / "data", planes=(), mask_pixels=False))
    assert len(samples) == 12
    assert all(s.planes == {} and "planes" not in s.note for s in samples.values())


def test_a_map_is_resized_with_its_photo(scenes: Path, tmp_path: Path) -> None:
    for sample in stored(built(scenes, tmp_path / "data", resize="squash", size_px=36)).values():
        for data in (sample.picture, *(sample.planes[name] for name in ("seg",) if name in sample.planes)):
            with Image.open(io.BytesIO(data)) as image:
                assert image.size == (36, 36)
        assert json.dumps(sample.note["normalised"]).count("36") >= 1


def celeba(folder: Path) -> dict[str, bytes]:
    """The files of twelve photos in the layout of CelebA, and its list."""
    lines = []
    for number in range(1, 13):
        path = folder / "img_align_celeba" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number).save(path)
        lines.append(f"{path.name} {number % 3}")
    (folder / "list_eval_partition.txt").write_text("\n".join(lines))
    return files_of(folder / "img_align_celeba")


def shards_and_tables(out: Path) -> dict[str, bytes]:
    """All files but the two records that say what the root was."""
    return {name: data for name, data in files_of(out).items() if "/" in name}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_celeba_in_an_archive_has_the_files_of_celeba_in_a_folder(tmp_path: Path, suffix: str) -> None:
    photos = {f"img_align_celeba/{name}": data for name, data in celeba(tmp_path / "in").items()}
    built(tmp_path / "in", tmp_path / "folder", source="celeba", planes=())
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / f"img_align_celeba{suffix}").write_bytes(PACKERS[suffix](photos))
    (tmp_path / "in" / "list_eval_partition.txt").rename(tmp_path / "packed" / "list_eval_partition.txt")
    packed = built(tmp_path / "packed", tmp_path / "archive", source="celeba", planes=())
    assert packed.commit["ledger"]["num_written"] == 12
    assert shards_and_tables(tmp_path / "archive") == shards_and_tables(tmp_path / "folder")


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_photos_in_an_archive_have_the_files_of_photos_in_a_folder(tmp_path: Path, suffix: str) -> None:
    photos = files_of(photo_folder(tmp_path / "in", 12))
    built(tmp_path / "in", tmp_path / "folder", source="folder")
    (tmp_path / f"in{suffix}").write_bytes(PACKERS[suffix](photos))
    packed = built(tmp_path / f"in{suffix}", tmp_path / "archive", source="folder")
    assert packed.commit["ledger"]["num_written"] == 12
    assert shards_and_tables(tmp_path / "archive") == shards_and_tables(tmp_path / "folder")
